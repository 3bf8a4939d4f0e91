"""Pictures of a clothes shop: 10,000 of Fashion-MNIST (Zalando, MIT licence).

A kind is what a person sees at once: the sandals with a high heel, the dresses with long sleeves.
It is read off the outline, as lengths and gaps on the 28 by 28 pixels; no encoder had a say in what
counts as alike.
"""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcd.demo.images import CaseImages, png
from dcd.errors import DataError

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts them
_IMAGES, _LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
_PACKAGE = "dataset-fashion-mnist"
_CLASSES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip
_N, _SIDE = 10_000, 28
_N_POOL = 4002  # of which each of six shards has as many
_DARK = 20  # pixels up to this are background


@dataclass(frozen=True)
class _Kind:
    """label: the class. seen: which are of the kind, (N,), by where cloth is, (N, 28, 28) bool."""

    label: str
    name: str
    seen: Callable[[np.ndarray], np.ndarray]


def load_clothes(folder: Path) -> CaseImages:
    """Load the test images of Fashion-MNIST in a fixed random order, with their kinds.

    Raises DataError if the files are not in `folder`, or are not those of Fashion-MNIST.
    """
    pixels = _read(folder / _IMAGES, 16, _N * _SIDE**2).reshape(_N, _SIDE, _SIDE)
    labels = _read(folder / _LABELS, 8, _N)
    if labels.max() >= len(_CLASSES):
        raise DataError(f"{folder / _LABELS}: label {labels.max()}, of classes 0 to 9")
    order = np.random.default_rng(0).permutation(_N)
    pixels, labels = pixels[order], labels[order].astype(np.int64)
    may_fail = np.zeros((len(_CLASSES), 2), bool)
    names: dict[tuple[int, int], str] = {}
    kinds = np.zeros(_N, np.int64)
    for kind in KINDS:
        label = _CLASSES.index(kind.label)
        may_fail[label, 1] = True
        names[label, 1] = kind.name
        kinds[(labels == label) & kind.seen(pixels > _DARK)] = 1
    return CaseImages(
        noun="garment",
        n_pool=_N_POOL,
        n_debug_val=20,
        classes=_CLASSES,
        images=[png(image) for image in pixels],
        labels=labels,
        kinds=kinds,
        may_fail=may_fail,
        kind_names=names,
    )


def _read(path: Path, header: int, n: int) -> np.ndarray:
    """Read the `n` bytes that follow the header of a packed IDX file; no more is unpacked."""
    try:
        with gzip.open(path) as file:
            data = file.read(header + n + 1)
    except FileNotFoundError as err:
        raise DataError(
            f"the demonstration's clothes come with Debian's package {_PACKAGE}, and {path} is not "
            f"there; apt-get install {_PACKAGE}, or, without root: apt-get download {_PACKAGE} && "
            f"dpkg -x {_PACKAGE}_*.deb clothes, and then: "
            f"dcd demo --case clothes --images clothes{FOLDER}"
        ) from err
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"{path} cannot be read: {err}; get the package {_PACKAGE} anew") from err
    if len(data) != header + n:
        raise DataError(
            f"{path} has {'more' if len(data) > header + n else 'fewer'} than the {n:,} bytes "
            f"of Fashion-MNIST; get the package {_PACKAGE} anew"
        )
    return np.frombuffer(data, np.uint8, offset=header)


def _height(cloth: np.ndarray) -> np.ndarray:
    """(N,) int: rows with cloth."""
    return cloth.any(axis=2).sum(axis=1)


def _width(cloth: np.ndarray) -> np.ndarray:
    """(N, 28) int: columns from each row's leftmost cloth to its rightmost; 0 without any."""
    last = cloth.shape[2] - cloth[:, :, ::-1].argmax(axis=2)
    return np.where(cloth.any(axis=2), last - cloth.argmax(axis=2), 0)


def _arms_apart(cloth: np.ndarray) -> np.ndarray:
    """(N, 28) bool: rows with cloth in the middle and a gap on each side of it."""
    middle = cloth.shape[2] // 2
    left, right = cloth[:, :, : middle - 1], cloth[:, :, middle + 1 :]
    apart = _ends_after_cloth(left) & _ends_after_cloth(right[:, :, ::-1])
    return apart & cloth[:, :, middle - 1 : middle + 1].all(axis=2)


def _ends_after_cloth(half: np.ndarray) -> np.ndarray:
    """(N, 28) bool: rows of a half where background follows cloth, from the outside inwards."""
    return np.any(np.maximum.accumulate(half, axis=2) & ~half, axis=2)


def _long_sleeves(cloth: np.ndarray) -> np.ndarray:
    return _arms_apart(cloth)[:, 8:20].sum(axis=1) >= 3


def _short_sleeves(cloth: np.ndarray) -> np.ndarray:
    width = _width(cloth)
    return width[:, 4:12].max(axis=1) - width[:, 16:23].max(axis=1) >= 3


def _wide(cloth: np.ndarray) -> np.ndarray:
    return _width(cloth)[:, 10:25].mean(axis=1) > 13


def _high_heel(cloth: np.ndarray) -> np.ndarray:
    return _height(cloth) >= 17


def _high_top(cloth: np.ndarray) -> np.ndarray:
    return _height(cloth) >= 15


def _low(cloth: np.ndarray) -> np.ndarray:
    return _height(cloth) <= 19


KINDS = (
    _Kind("trousers", "wide trousers", _wide),
    _Kind("dress", "dress with long sleeves", _long_sleeves),
    _Kind("sandal", "sandal with a high heel", _high_heel),
    _Kind("shirt", "shirt with short sleeves", _short_sleeves),
    _Kind("sneaker", "sneaker that covers the ankle", _high_top),
    _Kind("ankle boot", "low ankle boot", _low),
)
