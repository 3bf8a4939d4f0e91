"""Keep encoded images in one local file, from which they are read one by one.

A training looks at its images in another order in every epoch, for longer than their source should
be asked for them, and they may be more than memory holds. Held in memory are only their places.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Places = Mapping[str, tuple[int, int]]  # by image id: first byte, number of bytes


@dataclass(frozen=True, eq=False)
class SpooledImages(Sequence[bytes]):
    """N encoded images in a file. places: (N, 2) int64, of each its first byte and their number."""

    path: Path
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        start, size = self.places[index].tolist()
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def take(self, rows: np.ndarray) -> "SpooledImages":
        """Keep the images at these positions; nothing is read."""
        return SpooledImages(self.path, self.places[rows])


@dataclass(frozen=True)
class Spool:
    """A file that grows by what is written to it; its folder, and so its end, is the caller's."""

    path: Path

    def write(self, images: Iterable[tuple[str, bytes]]) -> Places:
        """Append images by id, as they come; return where each one is."""
        found: dict[str, tuple[int, int]] = {}
        with self.path.open("ab") as file:
            for image_id, data in images:
                found[image_id] = (file.tell(), len(data))
                file.write(data)
        return found

    def images(self, places: Iterable[tuple[int, int]]) -> SpooledImages:
        """Return the images at these places, in their order."""
        return SpooledImages(self.path, np.array(list(places), np.int64).reshape(-1, 2))


def taken(images: Sequence[bytes], rows: np.ndarray) -> Sequence[bytes]:
    """Return the images at these positions."""
    if isinstance(images, SpooledImages):
        return images.take(rows)
    return [images[i] for i in rows.tolist()]


def chained(parts: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    """Return the images of all parts, one part after the other; those of one file stay there."""
    spooled = [part for part in parts if isinstance(part, SpooledImages)]
    if len(spooled) == len(parts) and len({part.path for part in spooled}) == 1:
        return SpooledImages(spooled[0].path, np.concatenate([part.places for part in spooled]))
    return [image for part in parts for image in part]
