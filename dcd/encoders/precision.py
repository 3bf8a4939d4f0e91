"""Find the fastest precision that keeps a network's embeddings.

Rounding hurts one network and not the next: bf16 costs a ViT next to nothing, but moves half of
the embeddings of an EfficientNet-Lite further than our tolerance. So it is measured, on a few
images, when an encoder is loaded. The images are drawn with the spectrum of photographs, 1/f;
networks move a little more on them than on photographs.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dcd.errors import EncoderError

Precision = Literal["fp32", "mixed", "bf16", "int8"]
Embed = Callable[[np.ndarray], np.ndarray]  # (B, S, S, 3) uint8 → (B, D) float32


@dataclass(frozen=True)
class Runtime:
    """What a network runs on, decided for this machine; "auto" is settled by `backends.build`."""

    backend: Literal["openvino", "torch"]
    device: Literal["cpu", "cuda"]
    precision: Literal["auto", "fp32", "mixed", "bf16", "int8"]


MIN_COSINE = 0.999  # to fp32, for 99.9 % of images

# A few images do not show one in a thousand. Where half of them stay this near, the tail, up to
# ten times as far in every network measured, stays within the tolerance.
_MIN_MEDIAN_COSINE = 0.9997
_N_IMAGES = 16
_MAX_CONTRAST, _MIN_CONTRAST = 75, 25


def compiled_when_used(compile_it: Callable[[], Embed]) -> Embed:
    """Make an `Embed` that is compiled when its first batch comes, once for all threads."""
    compiling = threading.Lock()
    compiled: list[Embed] = []

    def embed(images: np.ndarray) -> np.ndarray:
        with compiling:
            if not compiled:
                compiled.append(compile_it())
        return compiled[0](images)

    return embed


def fastest_within_tolerance(
    build: Callable[[Precision], Embed], candidates: Sequence[Precision], input_size: int
) -> Precision:
    """Return the first candidate whose embeddings stay near those in fp32, or "fp32" if none does.

    A candidate for which `build` raises EncoderError is passed over.
    """
    images = natural_images(_N_IMAGES, input_size)
    exact = build("fp32")(images)
    for precision in candidates:
        try:
            found = build(precision)(images)
        except EncoderError:
            continue
        near = cosines(found, exact)
        # Not-a-number is in no order, so an overflow refuses the candidate too.
        if near.min() >= MIN_COSINE and np.median(near) >= _MIN_MEDIAN_COSINE:
            return precision
    return "fp32"


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare (N, D) and (N, D) row by row, → (N,); 1 where both rows are zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    return np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.where(both_zero, 1.0, lengths))


def natural_images(n: int, size: int) -> np.ndarray:
    """Draw (n, size, size, 3) uint8 images with the statistics of photographs.

    They are random fields with a spectrum of 1/f^0.8 to 1/f^1.6, correlated channels, and the
    brightness and contrast of photographs. They are the same at every call.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = 1 / size
    grey_and_colours = np.array([[1, 0.3, 0.1], [1, 0, -0.2], [1, -0.3, 0.2]])
    images = np.empty((n, size, size, 3), np.uint8)
    for image in images:
        fields = np.tensordot(rng.normal(size=(size, size, 3)), grey_and_colours.T, axes=1)
        spectrum = np.fft.fft2(fields, axes=(0, 1)) / frequency[:, :, None] ** rng.uniform(0.8, 1.6)
        pixels = np.fft.ifft2(spectrum, axes=(0, 1)).real
        contrast = rng.uniform(_MIN_CONTRAST, _MAX_CONTRAST)
        pixels = (pixels - pixels.mean()) / pixels.std() * contrast + rng.uniform(70, 180)
        image[:] = np.clip(pixels, 0, 255)
    return images
