"""Rows in one order, whatever fits in memory and however they come."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import StoreError
from dcd.index import external_sort
from dcd.index.external_sort import ExternalSort

ORDER = ["label", "list", "image_id"]
SCHEMA = pa.schema(
    [
        ("label", pa.string()),
        ("list", pa.int32()),
        ("image_id", pa.string()),
        ("vector", pa.binary(4)),
    ]
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(external_sort, "_BLOCK_BYTES", 600)
    monkeypatch.setattr(external_sort, "_PIECE_BYTES", 5000)
    monkeypatch.setattr(external_sort, "_MIN_BLOCKS_AT_ONCE", 3)


def random_rows(n_rows: int, n_labels: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    # Text is ordered by its bytes: é comes after every letter of ASCII.
    ids = [f"é{n}" if n % 7 == 0 else f"i{n}" for n in rng.permutation(n_rows)]
    columns = [
        pa.array([f"label {n}" for n in rng.integers(0, n_labels, n_rows)]),
        pa.array(rng.integers(-1, 3, n_rows), pa.int32()),
        pa.array(ids),
        pa.array([rng.bytes(4) for _ in range(n_rows)], pa.binary(4)),
    ]
    return pa.table(columns, schema=SCHEMA)


def pieces(rows: pa.Table, seed: int) -> list[pa.Table]:
    """Of any size, also of no row."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, rows.num_rows + 1, 6)).tolist()
    bounds = zip([0, *cuts], [*cuts, rows.num_rows], strict=True)
    return [rows.slice(start, end - start) for start, end in bounds]


def by_key(rows: pa.Table) -> list[dict[str, object]]:
    found = rows.to_pylist()
    return sorted(found, key=lambda r: (r["label"].encode(), r["list"], r["image_id"].encode()))


def all_in_order(rows: list[pa.Table], folder: Path, memory_bytes: int) -> list[dict[str, object]]:
    with ExternalSort(SCHEMA, ORDER, folder, memory_bytes) as sort:
        for piece in rows:
            sort.take(piece)
        return pa.concat_tables(sort.sorted()).to_pylist()


@pytest.mark.parametrize("n_labels", [1, 5, 1000])
@pytest.mark.parametrize("memory_bytes", [48_000, 240_000, 10**9])
@pytest.mark.parametrize("n_rows", [1, 37, 1500])
def test_rows_come_in_order(tmp_path: Path, n_rows: int, memory_bytes: int, n_labels: int):
    rows = random_rows(n_rows, n_labels, seed=n_rows)
    with ExternalSort(SCHEMA, ORDER, tmp_path, memory_bytes) as sort:
        for piece in pieces(rows, seed=n_labels):
            sort.take(piece)
        assert pa.concat_tables(sort.sorted()).to_pylist() == by_key(rows)
        assert any(tmp_path.iterdir()) == (n_rows == 1500 and memory_bytes < 10**9)
    assert not any(tmp_path.iterdir())


def test_a_row_that_many_runs_hold_comes_as_often(tmp_path: Path):
    rows = pa.concat_tables([random_rows(400, 2, seed=1)] * 5)
    assert all_in_order(pieces(rows, seed=2), tmp_path, 40_000) == by_key(rows)


def test_no_rows_are_no_tables(tmp_path: Path):
    with ExternalSort(SCHEMA, ORDER, tmp_path, 10**6) as sort:
        sort.take(SCHEMA.empty_table())
        assert list(sort.sorted()) == []


def test_who_stops_early_leaves_no_file(tmp_path: Path):
    with ExternalSort(SCHEMA, ORDER, tmp_path, 48_000) as sort:
        for piece in pieces(random_rows(1500, 5, seed=3), seed=3):
            sort.take(piece)
        assert next(sort.sorted()).num_rows < 1500
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path: Path):
    (tmp_path / "sorted-runs").symlink_to("/dev/full")
    rows = pieces(random_rows(1500, 5, seed=4), seed=4)
    with pytest.raises(StoreError, match=r"sorted-runs: cannot write it: no space is left"):
        all_in_order(rows, tmp_path, 48_000)
    assert not any(tmp_path.iterdir())
