import numpy as np
import pyarrow as pa
import pytest

from dcd.index.build import build_index
from dcd.index.read import shared_sample
from dcd.selection.copies import copies_of, pool_copies
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


def test_copies_among_picks_are_the_same_whether_the_pools_are_kept_or_not(store):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 300))
    put_shard(store, "s", [f"i{n:02d}" for n in range(60)], ["a"] * 60, vectors)
    index = build_index(store, POOL, ENCODER, ["s"], None)
    near = vectors[:20] + rng.normal(size=(20, 300)) * np.linspace(0, 0.12, 20)[:, None]
    guarded = guard({"test": failures_table(["a"] * 20, near)}, 0.06)
    sample = shared_sample(store, index)
    before = copies_of(store, index, ["id"], lambda: guarded, sample)
    assert 0 < before.count("test") < 20
    pool_copies(store, index, ["id"], lambda: guarded)
    unused = lambda: pytest.fail("the judging images were prepared again")  # noqa: E731
    assert copies_of(store, index, ["id"], unused, sample) == before
    others = failures_table(["a", "a"], near[[0, 19]] * 2)
    wanted = ["content_hash", "embedding"]
    part = sample.select(wanted).slice(0, 3).cast(others.select(wanted).schema)
    both = pa.concat_tables([others.select(wanted), part])
    found = copies_of(store, index, ["id"], lambda: guarded, both)
    assert found == ["test", "test", *before[:3]]
