import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dcd.errors import DataError
from dcd.index.build import build_index
from dcd.index.read import pool_rows
from dcd.index.search import in_label_neighbors
from dcd.selection.picks import debug_train, random_draw, random_in_label, targeted_picks
from dcd.store import Store
from dcd.tables import schemas
from tests.dcd.index.vector_pools import (
    ENCODER,
    POOL,
    blocked_table,
    content,
    failures_table,
    line_pool,
    put_shard,
)

NOTHING_BLOCKED = blocked_table({})
SHARDS = pa.table(
    {"shard": ["s0", "s1"], "uri": ["u/s0.tar", "u/s1.tar"], "format": ["webdataset"] * 2}
    | {"n_images": pa.array([None, None], pa.int32()), "etag": ["1", "1"]},
    schema=schemas.SHARDS,
)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def test_no_neighbors_give_no_picks(store):
    index = line_pool(store)
    neighbors = schemas.NEIGHBORS.empty_table()
    assert debug_train(neighbors, pool_rows(store, index), SHARDS).num_rows == 0


def test_debug_train_is_the_union_with_provenance(store):
    index = line_pool(store)
    failures = failures_table(["a", "a"], np.array([[0.0], [2.0]]))
    blocked = blocked_table({"i1": "in test"})
    neighbors = in_label_neighbors(store, index, failures, blocked, 2)
    picks = debug_train(neighbors, pool_rows(store, index), SHARDS)
    assert picks.schema.equals(schemas.DEBUG_TRAIN)
    columns = ("image_id", "label", "shard", "uri", "min_distance", "n_queries")
    assert [tuple(row[c] for c in columns) for row in picks.to_pylist()] == [
        ("i0", "a", "s0", "u/s0.tar", 0.0, 1),
        ("i2", "a", "s0", "u/s0.tar", 0.0, 2),
        ("i3", "a", "s0", "u/s0.tar", 1.0, 1),
    ]


def test_debug_train_takes_a_content_once(store):
    contents = [content(x) for x in ("same", "i1", "same", "z")]
    index = line_pool(store, n=3, contents=contents)
    put_shard(store, "s1", ["y"], ["b"], np.array([[9.0]]), [content("same")])
    index = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    failures = failures_table(["a", "b"], np.array([[2.0], [0.0]]))
    neighbors = in_label_neighbors(store, index, failures, NOTHING_BLOCKED, 3)
    picks = debug_train(neighbors, pool_rows(store, index), SHARDS)
    found = {r["image_id"]: (r["label"], r["min_distance"]) for r in picks.to_pylist()}
    assert found == {"i0": ("a", 0.0), "i1": ("a", 1.0), "z": ("b", 0.0)}


ROWS = pa.table({"image_id": [f"i{n}" for n in range(20)], "label": ["a"] * 15 + ["b"] * 5})


def test_random_draws_are_fixed_by_the_generator():
    drawn = random_draw(ROWS, 8, np.random.default_rng(3))
    assert drawn.equals(random_draw(ROWS, 8, np.random.default_rng(3)))
    assert not drawn.equals(random_draw(ROWS, 8, np.random.default_rng(4)))
    assert len(set(drawn["image_id"].to_pylist())) == 8
    with pytest.raises(DataError, match="21 images asked for, the pool has only 20"):
        random_draw(ROWS, 21, np.random.default_rng(0))


def test_random_in_label_keeps_the_counts():
    drawn = random_in_label(ROWS, {"b": 2, "a": 3}, np.random.default_rng(0))
    assert drawn["label"].to_pylist() == ["a", "a", "a", "b", "b"]
    assert len(set(drawn["image_id"].to_pylist())) == 5
    with pytest.raises(DataError, match="6 images of label 'b' asked for, the pool has only 5"):
        random_in_label(ROWS, {"b": 6}, np.random.default_rng(0))


def test_the_general_sample_stands_beside_the_picks(store):
    index = line_pool(store)
    rows = pool_rows(store, index)
    failures = failures_table(["a"], np.array([[0.0]]))
    neighbors = in_label_neighbors(store, index, failures, NOTHING_BLOCKED, 2)
    general = rows.filter(pc.is_in(rows["image_id"], value_set=pa.array(["i1", "i4"])))
    general = general.append_column("label_agreement", pa.array([0.5, 0.75], pa.float32()))
    picks = debug_train(neighbors, rows, SHARDS, 3.0, general, 0.5)
    assert picks.schema.equals(schemas.DEBUG_TRAIN)
    columns = ("image_id", "role", "weight", "label_agreement", "min_distance", "n_queries")
    assert [tuple(row[c] for c in columns) for row in picks.to_pylist()] == [
        ("i4", "general", 0.5, 0.75, None, 0),
        ("i0", "targeted", 3.0, None, 0.0, 1),
        ("i1", "targeted", 3.0, None, 1.0, 1),
    ]
    assert targeted_picks(picks)["image_id"].to_pylist() == ["i0", "i1"]
