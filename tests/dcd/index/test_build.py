"""Lists, codes, appending and compaction: `dcd.index.read.build` beyond the plain index."""

import json

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import IndexConfig
from dcd.errors import ConfigError, DataError
from dcd.index import plan
from dcd.index.build import build_index
from dcd.index.info import index_info
from dcd.index.read import pool_rows, pool_sample, vectors_of
from dcd.index.search import in_label_neighbors
from dcd.store import Store, keys
from tests.dcd.index.vector_pools import (
    ENCODER,
    POOL,
    blocked_table,
    content,
    failures_table,
    make_lists_small,
    put_shard,
)

DIM = 16
NOTHING_BLOCKED = blocked_table({})
LISTS = IndexConfig(max_scan_bytes=2**16, recall_target=0.9)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def small_lists(monkeypatch):
    make_lists_small(monkeypatch, DIM)


def clustered_shard(store: Store, name: str, n_large: int, n_small: int, seed: int = 0) -> None:
    """Label `large` in 30 clusters, label `small` in one."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((30, DIM)) * 4
    vectors = rng.standard_normal((n_large + n_small, DIM))
    vectors[:n_large] += centres[rng.integers(0, 30, n_large)]
    ids = [f"{name}-{n:05d}" for n in range(n_large + n_small)]
    put_shard(store, name, ids, ["large"] * n_large + ["small"] * n_small, vectors)


def queries(n: int = 8) -> pa.Table:
    rng = np.random.default_rng(7)
    centres = np.random.default_rng(99).standard_normal((30, DIM)) * 4
    vectors = rng.standard_normal((n, DIM)) + centres[:n]
    return failures_table((["large"] * (n - 2)) + ["small", "small"], vectors)


def found(neighbors: pa.Table, label: str) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for row in neighbors.to_pylist():
        if row["label"] == label and row["kept"]:
            ids.setdefault(row["error_image_id"], []).append(row["image_id"])
    return ids


def recall(approximate: dict[str, list[str]], exact: dict[str, list[str]]) -> float:
    return float(
        np.mean([len(set(approximate[e]) & set(ids)) / len(ids) for e, ids in exact.items()])
    )


def files_of(store: Store, index_id: str) -> dict[str, bytes]:
    names = store.keys_under(keys.index(POOL, ENCODER, index_id))
    return {key.rpartition("/")[2]: store.read_bytes(key) for key in names}


def test_a_large_label_is_searched_through_lists_with_the_recall_that_was_measured(
    store, small_lists
):
    clustered_shard(store, "s0", 6000, 300)
    index = build_index(store, POOL, ENCODER, ["s0"], None, LISTS)
    assert set(index.lists) == {"large"}
    info = index.lists["large"]
    assert info.n_lists == 46
    assert info.n_probed < info.n_lists
    assert info.recall[str(info.n_probed)] >= 0.9
    shares = list(info.recall.values())
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "'large' has 6,000 rows" in index.explanation
    assert "1 labels are scanned, exactly: the largest, 'small', has 300 rows" in index.explanation
    probed = in_label_neighbors(store, index, queries(), NOTHING_BLOCKED, 20)
    exact = in_label_neighbors(store, index, queries(), NOTHING_BLOCKED, 20, exact=True)
    assert found(probed, "small") == found(exact, "small")
    assert recall(found(probed, "large"), found(exact, "large")) > 0.8
    assert all(len(ids) == 20 for ids in found(probed, "large").values())


def test_all_lists_are_exact_and_equal_a_flat_index(store, small_lists):
    clustered_shard(store, "s0", 4000, 100)
    everything = LISTS.model_copy(update={"recall_target": 1.0})
    flat = build_index(store, POOL, ENCODER, ["s0"], None)
    listed = build_index(store, POOL, ENCODER, ["s0"], None, everything)
    assert listed.index_id != flat.index_id
    exact = in_label_neighbors(store, flat, queries(), NOTHING_BLOCKED, 20)
    scanned = in_label_neighbors(store, listed, queries(), NOTHING_BLOCKED, 20, exact=True)
    assert scanned.equals(exact)
    assert pool_rows(store, listed).equals(pool_rows(store, flat))
    some = pa.array(["s0-00001", "s0-04050"])
    assert vectors_of(store, listed, some).equals(vectors_of(store, flat, some))
    assert pool_sample(store, listed).equals(pool_sample(store, flat))


def test_blocked_images_widen_the_search_until_it_is_full(store, small_lists):
    clustered_shard(store, "s0", 4000, 100)
    index = build_index(store, POOL, ENCODER, ["s0"], None, LISTS)
    failure = queries().slice(0, 1)
    near = in_label_neighbors(store, index, failure, NOTHING_BLOCKED, 300)
    blocked = blocked_table(dict.fromkeys(near["image_id"].to_pylist(), "in test"))
    again = in_label_neighbors(store, index, failure, blocked, 1000)
    assert sum(again["kept"].to_pylist()) == 1000
    everything = in_label_neighbors(store, index, failure, blocked, 5000)
    assert everything.num_rows == 4000  # all that the label has
    assert sum(everything["kept"].to_pylist()) == 3700


@pytest.mark.parametrize("storage", ["float16", "int8", "pq"])
def test_the_same_embeddings_give_the_same_bytes(store, tmp_path, small_lists, storage):
    config = LISTS.model_copy(update={"storage": storage, "pq_bytes": 2})
    made = []
    for folder, order in (("one", ["s0", "s1"]), ("two", ["s1", "s0"])):
        other = Store(str(tmp_path / folder))
        for name in order[::-1]:
            clustered_shard(other, name, 3000, 200, seed=int(name[1]))
        index = build_index(other, POOL, ENCODER, order, None, config)
        made.append((index, files_of(other, index.index_id)))
    assert made[0] == made[1]
    assert {"index.json", "lists.parquet", "sample.parquet", "sources.json"} <= set(made[0][1])


@pytest.mark.parametrize(("storage", "least", "most_bytes"), [("int8", 0.9, 16), ("pq", 0.2, 4)])
def test_codes_are_smaller_and_their_recall_is_reported(store, storage, least, most_bytes):
    clustered_shard(store, "s0", 3000, 200)
    exact_index = build_index(store, POOL, ENCODER, ["s0"], None)
    assert exact_index.code_recall is None
    config = IndexConfig(storage=storage, pq_bytes=4)
    index = build_index(store, POOL, ENCODER, ["s0"], None, config)
    assert index.code_recall is not None
    assert least < index.code_recall < 1
    assert f"stored as {storage}: recall@50 {index.code_recall}" in index.explanation
    exact = in_label_neighbors(store, exact_index, queries(), NOTHING_BLOCKED, 50)
    coded = in_label_neighbors(store, index, queries(), NOTHING_BLOCKED, 50)
    measured = recall(found(coded, "large"), found(exact, "large"))
    assert abs(measured - index.code_recall) < 0.15
    vectors = store.read_table(f"{index.prefix}/vectors-00000.parquet", ["code"])
    assert vectors["code"].type.byte_width == most_bytes
    ids = pa.array(["s0-00000", "s0-03100"])
    near = np.array(vectors_of(store, index, ids)["embedding"].to_pylist())
    true = np.array(vectors_of(store, exact_index, ids)["embedding"].to_pylist())
    assert np.abs(near - true).max() < (0.1 if storage == "int8" else 4)


def test_too_few_rows_for_product_quantisation_are_refused(store):
    clustered_shard(store, "s0", 100, 10)
    with pytest.raises(ConfigError, match="pq needs 256 vectors to train on"):
        build_index(store, POOL, ENCODER, ["s0"], None, IndexConfig(storage="pq"))


@pytest.mark.parametrize("config", [IndexConfig(), LISTS, IndexConfig(storage="int8")])
def test_new_shards_are_appended_and_found_as_in_a_whole_index(store, small_lists, config):
    clustered_shard(store, "s0", 3000, 200)
    base = build_index(store, POOL, ENCODER, ["s0"], None, config)
    before = files_of(store, base.index_id)
    clustered_shard(store, "s1", 500, 0, seed=1)
    again = vectors_of(store, base, pa.array(["s0-00000"]))["embedding"].to_pylist()
    vectors = np.concatenate([np.ones((1, DIM)), again])
    put_shard(store, "s2", ["n0", "s0-00000"], ["new", "large"], vectors)
    appended = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None, config)
    assert appended.segments == (base.index_id, appended.index_id)
    assert files_of(store, base.index_id) == before
    written = files_of(store, appended.index_id)
    assert sum(len(data) for name, data in written.items() if "vectors" in name) < 0.4 * sum(
        len(data) for name, data in before.items() if "vectors" in name
    )
    assert appended.label_counts == {"large": 3500, "new": 1, "small": 200}
    assert (appended.n_images, appended.n_duplicates) == (3702, 1)
    assert build_index(store, POOL, ENCODER, ["s2", "s1", "s0"], None, config) == appended
    assert index_info(store, POOL, ENCODER, appended.index_id) == appended

    whole = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None, config, compact=True)
    assert whole.segments == (whole.index_id,)
    assert build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None, config) == whole
    assert pool_rows(store, appended).equals(pool_rows(store, whole))
    assert pool_sample(store, appended).equals(pool_sample(store, whole))
    if config.storage == "float16":
        one = in_label_neighbors(store, appended, queries(), NOTHING_BLOCKED, 20, exact=True)
        other = in_label_neighbors(store, whole, queries(), NOTHING_BLOCKED, 20, exact=True)
        assert one.equals(other)


def test_labels_that_new_shards_do_not_touch_are_read_from_where_they_were(store):
    clustered_shard(store, "s0", 2000, 300)
    base = build_index(store, POOL, ENCODER, ["s0"], None)
    clustered_shard(store, "s1", 400, 0, seed=1)
    appended = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    directory = store.read_table(f"{appended.prefix}/labels.parquet").to_pylist()
    parts = {
        row["label"]: {r["part"] for r in directory if r["label"] == row["label"]}
        for row in directory
    }
    assert all(part.startswith(base.prefix) for part in parts["small"])
    assert any(part.startswith(appended.prefix) for part in parts["large"])


def test_what_cannot_be_appended_to_is_built_anew(store, monkeypatch):
    clustered_shard(store, "s0", 400, 100)
    clustered_shard(store, "s1", 100, 0, seed=1)
    base = build_index(store, POOL, ENCODER, ["s0"], None)
    settings = IndexConfig(sample_rows=7)
    assert build_index(store, POOL, ENCODER, ["s0", "s1"], None, settings).segments != (
        base.index_id,
    )
    labels = pa.table({"image_id": ["s0-00000"], "label": ["x"]})
    relabelled = build_index(store, POOL, ENCODER, ["s0", "s1"], labels)
    assert len(relabelled.segments) == 1
    clustered_shard(store, "s2", 3000, 0, seed=2)  # larger than half of the base
    assert len(build_index(store, POOL, ENCODER, ["s0", "s2"], None).segments) == 1
    monkeypatch.setattr(plan, "_MAX_SEGMENTS", 1)
    assert len(build_index(store, POOL, ENCODER, ["s0", "s1"], None).segments) == 1
    clustered_shard(store, "s0", 401, 100)  # same name and etag, other rows: the same identity
    put_shard(store, "s0", ["other"], ["large"], np.ones((1, DIM)), etag="2")
    changed = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    assert changed.n_rows == 101


def test_an_index_of_the_format_before_is_reused_and_appended_to(store, monkeypatch):
    clustered_shard(store, "s0", 400, 100)
    with monkeypatch.context() as before:
        before.setattr(plan, "_INDEX_FORMAT", 3)
        before.setattr(plan, "_FORMATS_AS_GOOD", ())
        older = build_index(store, POOL, ENCODER, ["s0"], None)
    assert build_index(store, POOL, ENCODER, ["s0"], None) == older
    clustered_shard(store, "s1", 100, 0, seed=1)
    appended = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    assert appended.segments == (older.index_id, appended.index_id)
    assert build_index(store, POOL, ENCODER, ["s0", "s1"], None) == appended
    other = build_index(store, POOL, ENCODER, ["s0"], None, IndexConfig(sample_rows=7))
    assert other.index_id != older.index_id
    whole = build_index(store, POOL, ENCODER, ["s0", "s1"], None, compact=True)
    assert whole.segments == (whole.index_id,)


def test_an_appended_image_that_contradicts_the_index_is_refused(store):
    clustered_shard(store, "s0", 400, 100)
    build_index(store, POOL, ENCODER, ["s0"], None)
    put_shard(store, "s1", ["s0-00003"], ["large"], np.ones((1, DIM)), [content("other")])
    with pytest.raises(
        DataError, match="'s0-00003' names different images in the shards s0 and s1"
    ):
        build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    infos = [key for key in store.keys_under("index") if key.endswith("index.json")]
    assert len(infos) == 1
    assert json.loads(store.read_bytes(infos[0]))["n_rows"] == 500
