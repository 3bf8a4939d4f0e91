"""Make small pictures as data URIs, within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dcd.images.decode import BadImage, decode

_BATCH = 256  # images fetched at once: bounds the memory whatever the size of the originals
_QUALITY = 75
_THREADS = 4  # decoding and encoding leave Python's lock


@dataclass(frozen=True)
class Album:
    """Data URIs by image id. `broken` could not be fetched or decoded; ids in neither of the two
    were left out because the budget was spent.
    """

    uris: Mapping[str, str]
    broken: frozenset[str]

    def holds(self, image_id: str) -> bool:
        return image_id in self.uris or image_id in self.broken


def album(
    uses: Sequence[str],
    image_bytes: Callable[[Collection[str]], Mapping[str, bytes]],
    max_bytes: int,
    max_side_px: int = 64,
) -> Album:
    """Make thumbnails for `uses`, the weightiest first; an id counts as often as it is used.

    The page never holds more than `max_bytes` of data URIs: uses that would pass it and all
    after them are left out, so that the same input always shows the same pictures.
    """
    uris: dict[str, str] = {}
    broken: set[str] = set()
    spent = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(uses), _BATCH):
            batch = uses[start : start + _BATCH]
            wanted = [i for i in dict.fromkeys(batch) if i not in uris and i not in broken]
            fetched = image_bytes(wanted) if wanted else {}
            made = pool.map(lambda i, of=fetched: _data_uri(of.get(i), max_side_px), wanted)
            fresh = dict(zip(wanted, made, strict=True))
            for image_id in batch:
                if image_id in broken:
                    continue
                uri = uris.get(image_id) or fresh[image_id]
                if uri is None:
                    broken.add(image_id)
                    continue
                spent += len(uri)
                if spent > max_bytes:
                    return Album(uris, frozenset(broken))
                uris[image_id] = uri
    return Album(uris, frozenset(broken))


def _data_uri(data: bytes | None, max_side_px: int) -> str | None:
    """A WebP data URI with neither side longer than `max_side_px`; None if it does not decode."""
    if data is None:
        return None
    try:
        pixels = decode(data)
    except BadImage:
        return None
    return f"data:image/webp;base64,{base64.b64encode(_webp(pixels, max_side_px)).decode()}"


def _webp(pixels: np.ndarray, max_side_px: int) -> bytes:
    """pixels: (H, W, 3) uint8. Shrinks, never enlarges."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=_QUALITY, method=4)
    return encoded.getvalue()
