"""What a case of the demonstration is made of: images with their true labels and kinds."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class CaseImages:
    """Images in the order in which they are dealt: the first `n_pool` are the pool's.

    n_debug_val: images of debug_val in each failing kind.
    images: N, encoded PNG bytes. labels: (N,) int, places in `classes`. kinds: (N,) int, the kind
    of each image within its label. kind_names: a text for each (label, kind) that can fail.
    may_fail: (classes, kinds) bool. noun: what an image is called in its id.
    """

    noun: str
    n_pool: int
    n_debug_val: int
    classes: tuple[str, ...]
    images: list[bytes]
    labels: np.ndarray
    kinds: np.ndarray
    may_fail: np.ndarray
    kind_names: dict[tuple[int, int], str]

    def label(self, i: int) -> str:
        return self.classes[self.labels[i]]

    def kind_name(self, i: int) -> str:
        return self.kind_names[int(self.labels[i]), int(self.kinds[i])]


def png(pixels: np.ndarray) -> bytes:
    """Encode (H, W) uint8 grey pixels."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()
