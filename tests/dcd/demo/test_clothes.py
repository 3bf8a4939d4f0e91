"""The clothes: kinds are told by their outline, and files that are not theirs are refused."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from dcd.demo.clothes import FOLDER, KINDS, load_clothes
from dcd.errors import DataError

_N, _SIDE = 10_000, 28
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
# As Debian's package has them; .ci/run installs it.
REAL = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")


def outline(label: int, unusual: bool) -> np.ndarray:
    """(28, 28) uint8: a garment in few strokes, of the kind that train will lack or of another."""
    cloth = np.zeros((_SIDE, _SIDE), np.uint8)
    body = {1: (1, 27, 10, 18), 3: (1, 27, 10, 18), 6: (1, 27, 8, 20)}
    if label in body:
        top, bottom, left, right = body[label]
        if label == 1 and unusual:
            left, right = 6, 22
        cloth[top:bottom, left:right] = 200
        if label == 3 and unusual:
            cloth[4:22, [6, 7, 20, 21]] = 200
            cloth[4:6, 6:22] = 200
        if label == 6:
            cloth[2:8, 4:24] = 200
            if not unusual:
                cloth[2:24, [4, 5, 22, 23]] = 200
    else:
        height = {5: (10, 20), 7: (10, 18), 9: (25, 15)}.get(label, (22, 22))[unusual]
        cloth[-height:, 4:24] = 200
    return cloth


def drawn_clothes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write 10,000 drawn garments as the package's files; (N,) labels and unusual."""
    rng = np.random.default_rng(5)
    labels, unusual = rng.integers(0, 10, _N), rng.random(_N) < 0.3
    drawn = np.stack([[outline(label, odd) for odd in (False, True)] for label in range(10)])
    pixels = drawn[labels, unusual.astype(int)]
    pixels = np.where(pixels > 0, rng.integers(120, 255, pixels.shape), 0).astype(np.uint8)
    write_idx(folder / IMAGES, pixels)
    write_idx(folder / LABELS, labels.astype(np.uint8))
    return labels, unusual


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an IDX file of bytes, packed."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=1, mtime=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clothes")
    drawn_clothes(folder)
    return folder


def test_kinds_are_told_by_their_outline(folder: Path):
    labels, unusual = drawn_clothes(folder)
    order = np.random.default_rng(0).permutation(_N)
    loaded = load_clothes(folder)
    assert loaded.labels.tolist() == labels[order].tolist()
    failing = {loaded.classes.index(kind.label) for kind in KINDS}
    expected = unusual[order] & np.isin(loaded.labels, list(failing))
    assert loaded.kinds.tolist() == expected.astype(int).tolist()
    assert set(np.flatnonzero(loaded.may_fail.any(axis=1))) == failing
    assert [kind.name for kind in KINDS if kind.label not in kind.name] == []


def test_without_the_package_the_lines_that_bring_it_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"apt-get install dataset-fashion-mnist.*--images") as told:
        load_clothes(tmp_path)
    assert str(tmp_path / IMAGES) in str(told.value)


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        (IMAGES, lambda data: data[: len(data) // 2]),
        (IMAGES, lambda data: b"<!doctype html>"),
        (IMAGES, lambda data: gzip.compress(gzip.decompress(data)[:-1], 1)),
        (IMAGES, lambda data: gzip.compress(gzip.decompress(data) + b"\0", 1)),
        (LABELS, lambda data: gzip.compress(gzip.decompress(data)[:-1] + b"\x0a", 1)),
    ],
    ids=["cut", "page", "too few", "too many", "unknown label"],
)
def test_other_files_are_refused_by_name(folder: Path, tmp_path: Path, name: str, spoilt):
    for each in (IMAGES, LABELS):
        data = (folder / each).read_bytes()
        (tmp_path / each).write_bytes(spoilt(data) if each == name else data)
    with pytest.raises(DataError, match=name):
        load_clothes(tmp_path)


@REAL
def test_each_kind_of_the_real_ones_is_common_enough_to_be_measured():
    loaded = load_clothes(FOLDER)
    outside = np.arange(_N) >= loaded.n_pool
    for label in np.flatnonzero(loaded.may_fail.any(axis=1)):
        of_kind = (loaded.labels == label) & (loaded.kinds == 1)
        assert np.sum(of_kind & outside) >= 52, loaded.classes[label]
        assert 25 <= np.sum(of_kind & ~outside) <= 300, loaded.classes[label]
