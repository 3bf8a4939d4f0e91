"""Make small pictures as data URIs, within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from PIL import Image

from dcd.images.decode import BadImage, decode

_BATCH = 256  # images fetched at once: bounds the memory whatever the size of the originals
_QUALITY = 75
_THREADS = 4  # decoding and encoding leave Python's lock


@dataclass(frozen=True)
class Picture:
    """An image by where it comes from and its id: failures and pool images may share ids."""

    origin: Literal["failure", "pool"]
    image_id: str


Key = TypeVar("Key", bound=Hashable)  # what tells pictures apart: a Picture, or an id


@dataclass(frozen=True)
class Album(Generic[Key]):
    """Data URIs by image id. `broken` could not be fetched or decoded; ids in neither of the two
    were left out because the budget was spent.
    """

    uris: Mapping[Key, str]
    broken: frozenset[Key]

    def holds(self, picture: Key) -> bool:
        return picture in self.uris or picture in self.broken


def album(
    uses: Sequence[Key],
    image_bytes: Callable[[Collection[Key]], Mapping[Key, bytes]],
    max_bytes: int,
    max_side_px: int = 64,
) -> Album[Key]:
    """Make thumbnails for `uses`, the weightiest first; an id counts as often as it is used.

    The page never holds more than `max_bytes` of data URIs: uses that would pass it and all
    after them are left out, so that the same input always shows the same pictures.
    """
    uris: dict[Key, str] = {}
    broken: set[Key] = set()
    spent = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(uses), _BATCH):
            batch = uses[start : start + _BATCH]
            wanted = [i for i in dict.fromkeys(batch) if i not in uris and i not in broken]
            fetched = image_bytes(wanted) if wanted else {}
            made = pool.map(lambda i, of=fetched: _data_uri(of.get(i), max_side_px), wanted)
            fresh = dict(zip(wanted, made, strict=True))
            for use in batch:
                if use in broken:
                    continue
                uri = uris.get(use) or fresh[use]
                if uri is None:
                    broken.add(use)
                    continue
                spent += len(uri)
                if spent > max_bytes:
                    return Album(uris, frozenset(broken))
                uris[use] = uri
    return Album(uris, frozenset(broken))


def thumbnail(data: bytes, max_side_px: int) -> bytes | None:
    """Make a WebP with neither side longer than `max_side_px`; None if `data` does not decode."""
    try:
        pixels = decode(data)
    except BadImage:
        return None
    return _webp(pixels, max_side_px)


def _data_uri(data: bytes | None, max_side_px: int) -> str | None:
    made = None if data is None else thumbnail(data, max_side_px)
    return None if made is None else f"data:image/webp;base64,{base64.b64encode(made).decode()}"


def _webp(pixels: np.ndarray, max_side_px: int) -> bytes:
    """pixels: (H, W, 3) uint8. Shrinks, never enlarges."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=_QUALITY, method=4)
    return encoded.getvalue()
