import numpy as np
import pytest

from dcd.index.build import build_index
from dcd.selection.copies import pool_copies
from dcd.selection.leaks import guard
from dcd.store import Store
from tests.dcd.index.vector_pools import ENCODER, POOL, failures_table, put_shard


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def test_the_pools_copies_are_found_once_for_the_same_splits(store):
    put_shard(store, "s", ["i0", "i1"], ["a", "b"], np.array([[1.0, 0.0], [0.0, 1.0]]))
    index = build_index(store, POOL, ENCODER, ["s"], None)
    test = failures_table(["a"], np.array([[2.0, 0.01]]))
    asked = []

    def guarded():
        asked.append(1)
        return guard({"test": test}, 0.1)

    judging = [0.1, "id-1"]
    found = pool_copies(store, index, judging, guarded)
    rows = found.select(["image_id", "weak_label", "copy_of"]).to_pylist()
    assert rows == [
        {"image_id": "i0", "weak_label": "a", "copy_of": "test"},
        {"image_id": "i1", "weak_label": "b", "copy_of": None},
    ]
    assert pool_copies(store, index, judging, guarded).equals(found)
    assert len(asked) == 1
    pool_copies(store, index, [0.1, "id-2"], guarded)
    pool_copies(store, index, [0.2, "id-1"], guarded)
    assert len(asked) == 3
