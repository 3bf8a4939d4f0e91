"""Several shards are read at once: in one order, and with one error."""

from pathlib import Path

import numpy as np
import pytest

from dcd.embeddings import read
from dcd.embeddings.read import find_embedded, read_rows
from dcd.store import Store
from dcd.store.errors import ObjectUnreadable
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard

NAMES = [f"s{n}" for n in range(5)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Five shards of 10 to 50 rows, read four rows at a time on four cores."""
    monkeypatch.setattr(read, "_READ_BATCH_ROWS", 4)
    monkeypatch.setattr(read, "cores", lambda: 4)
    store = Store(str(tmp_path / "store"))
    for number, name in enumerate(NAMES, 1):
        put(store, name, np.full((10 * number, 2), number, np.float32))
    return store


def put(store: Store, name: str, vectors: np.ndarray) -> None:
    ids = [f"{name}-{n:02d}" for n in range(len(vectors))]
    put_shard(store, name, ids, ["cat"] * len(ids), vectors)


def ids_of(store: Store, max_memory_bytes: int) -> list[str]:
    batches = read_rows(store, find_embedded(store, POOL, ENCODER, NAMES), max_memory_bytes)
    return [image_id for batch in batches for image_id in batch.column("image_id").to_pylist()]


def test_shards_that_fit_come_in_turn_and_always_so(store: Store):
    at_once = ids_of(store, 2**30)
    one_by_one = ids_of(store, 8 * 100)  # bytes: room for one shard in an eighth
    assert one_by_one == sorted(one_by_one)
    assert len(one_by_one) == 150
    assert at_once != one_by_one
    assert sorted(at_once) == one_by_one
    assert ids_of(store, 2**30) == at_once


def test_a_shard_that_is_not_whole_is_named(store: Store):
    put(store, "s3", np.full((4, 2), np.nan, np.float32))
    with pytest.raises(ObjectUnreadable, match=r"s3\.parquet.*4 vectors hold NaN"):
        ids_of(store, 2**30)


def test_a_taker_may_stop_early(store: Store):
    batches = read_rows(store, find_embedded(store, POOL, ENCODER, NAMES), 2**30)
    assert next(batches).num_rows == 4
    batches.close()
