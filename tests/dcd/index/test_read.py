from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import IndexConfig
from dcd.embeddings import read
from dcd.errors import DataError, EncoderMismatch, ObjectUnreadable, StoreError
from dcd.index import external_sort, sort
from dcd.index.build import build_index
from dcd.index.info import index_info
from dcd.index.read import pool_rows, pool_sample, read_vectors, vectors_of
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import from_blobs
from tests.dcd.index.vector_pools import ENCODER, POOL, content, put_shard

DIM = 8


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups of 2 to 5 rows and files of 12, so that every boundary is met."""
    monkeypatch.setattr(sort, "MIN_GROUP_BYTES", 2 * DIM * 2)
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * DIM * 5)
    monkeypatch.setattr(sort, "MAX_PART_BYTES", 2 * DIM * 12)


def random_pool(store: Store, n_shards: int = 3, n_rows: int = 40) -> dict[str, np.ndarray]:
    """Shards of labels a (many) to e (few); returns the vectors by image_id."""
    rng = np.random.default_rng(0)
    made = {}
    for shard in range(n_shards):
        ids = [f"i{shard}-{n:03d}" for n in rng.permutation(n_rows)]
        labels = rng.choice(list("abcde"), n_rows, p=[0.5, 0.3, 0.1, 0.06, 0.04]).tolist()
        vectors = rng.standard_normal((n_rows, DIM)).astype(np.float16)
        put_shard(store, f"s{shard}", ids, labels, vectors)
        made |= dict(zip(ids, vectors, strict=True))
    return made


def files_of(store: Store, index_id: str) -> dict[str, bytes]:
    found = store.keys_under(keys.index(POOL, ENCODER, index_id))
    return {key.rpartition("/")[2]: store.read_bytes(key) for key in found}


def test_rows_come_back_clustered_and_counted(store, small_groups):
    made = random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    rows = pool_rows(store, index)
    assert index.n_images == index.n_rows == rows.num_rows == 120
    assert rows.sort_by([("label", "ascending"), ("image_id", "ascending")]).equals(rows)
    assert Counter(rows["label"].to_pylist()) == index.label_counts
    vectors = vectors_of(store, index, rows["image_id"])
    assert vectors["image_id"].to_pylist() == sorted(made)
    for row in vectors.to_pylist():
        assert np.array_equal(np.float16(row["embedding"]), made[row["image_id"]])
        assert row["content_hash"] == content(row["image_id"])
    assert index_info(store, POOL, ENCODER, index.index_id) == index


def test_vectors_are_read_to_their_places(store, small_groups):
    made = random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    ids = np.random.default_rng(1).permutation(sorted(made))[:70].tolist()
    found = np.full((70, DIM), np.nan, np.float32)
    read_vectors(store, index, pa.chunked_array([ids[:20], ids[20:]]), found)
    np.testing.assert_array_equal(found, np.stack([made[i] for i in ids]))
    with pytest.raises(DataError, match="1 of 2 images are not in it, such as 'nobody'"):
        read_vectors(store, index, pa.chunked_array([[ids[0], "nobody"]]), found[:2])


def test_the_sample_of_a_small_pool_is_the_pool(store):
    made = random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    sample = pool_sample(store, index)
    columns = ["image_id", "weak_label", "shard", "content_hash"]
    rows = sample.select(columns).rename_columns(["image_id", "label", "shard", "content_hash"])
    assert rows.equals(pool_rows(store, index))
    for row in sample.to_pylist():
        assert np.array_equal(np.float16(row["embedding"]), made[row["image_id"]])


def test_the_sample_of_a_large_pool_is_bounded(store):
    made = random_pool(store)
    config = IndexConfig(sample_rows=30)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None, config)
    sample = pool_sample(store, index)
    assert sorted(sample["image_id"].to_pylist()) == sorted(sorted(made, key=content)[:30])


def test_a_sample_with_lists_is_read_as_versions_before_wrote_it(store):
    random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    sample = pool_sample(store, index)
    key = keys.index_sample(index.prefix)
    assert store.read_table(key)["embedding"].type == pa.binary(2 * DIM)
    store.write_table(key, sample)
    assert store.read_table(key)["embedding"].type == pa.list_(
        pa.field("element", pa.float16(), nullable=False), DIM
    )
    assert pool_sample(store, index).equals(sample)


def test_how_much_memory_there_is_changes_no_byte(store, tmp_path, small_groups, monkeypatch):
    random_pool(store)
    whole = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    monkeypatch.setattr(read, "_READ_BATCH_ROWS", 10)
    monkeypatch.setattr(external_sort, "_MAX_RUN_BYTES", 500)
    monkeypatch.setattr(external_sort, "_BLOCK_BYTES", 150)
    monkeypatch.setattr(external_sort, "_MIN_BLOCKS_AT_ONCE", 2)
    other = Store(str(tmp_path / "other"))
    random_pool(other)
    spilled = build_index(other, POOL, ENCODER, ["s0", "s1", "s2"], None)
    assert spilled == whole
    assert files_of(other, spilled.index_id) == files_of(store, whole.index_id)


def test_row_groups_hold_one_label_or_small_ones(store, small_groups):
    random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    prefix = keys.index(POOL, ENCODER, index.index_id)
    parts = [key for key in store.keys_under(prefix) if "vectors-" in key]
    assert len(parts) > 3
    for part in parts:
        file = pq.ParquetFile(store.path(part))
        assert file.metadata.num_rows <= 12
        for group in range(file.num_row_groups):
            labels = file.read_row_group(group, ["weak_label"])["weak_label"].to_pylist()
            assert len(labels) <= 5
            assert len(set(labels)) == 1 or max(labels.count(x) for x in labels) < 2


def test_same_embeddings_give_the_same_bytes(store, tmp_path, small_groups):
    random_pool(store)
    first = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    other = Store(str(tmp_path / "other"))
    random_pool(other)
    second = build_index(other, POOL, ENCODER, ["s2", "s0", "s1"], None)
    assert first == second
    made = files_of(store, first.index_id)
    assert {"index.json", "labels.parquet", "vectors-00000.parquet"} <= set(made)
    renamed = files_of(other, second.index_id)
    assert made == renamed


def test_files_of_versions_that_kept_vectors_as_lists_are_read(store, small_groups):
    made = random_pool(store, n_shards=1)
    index = build_index(store, POOL, ENCODER, ["s0"], None)
    found = vectors_of(store, index, pa.array(sorted(made)))
    kind = schemas.clustered(DIM).field("embedding")
    for key in store.keys_under(index.prefix):
        if "/vectors-" in key:
            with pq.ParquetFile(store.path(key)) as file:
                groups = [file.read_row_group(n) for n in range(file.num_row_groups)]
            old = [
                group.set_column(
                    group.schema.get_field_index("embedding"), kind, as_lists(group["embedding"])
                )
                for group in groups
            ]
            with pq.ParquetWriter(store.path(key), old[0].schema) as writer:
                for group in old:
                    writer.write_table(group)
    assert vectors_of(store, index, pa.array(sorted(made))).equals(found)


def as_lists(blobs: pa.ChunkedArray) -> pa.FixedSizeListArray:
    halves = from_blobs(blobs.combine_chunks(), np.float16, 2 * DIM)
    kind = schemas.clustered(DIM).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel()), type=kind)


def test_a_finished_index_is_not_rebuilt_and_changed_shards_make_another(store):
    random_pool(store)
    first = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    vectors = keys.index_vectors(first.prefix, 0)
    store.write_bytes(vectors, b"x")
    assert build_index(store, POOL, ENCODER, ["s1", "s0"], None) == first
    assert store.read_raw(vectors) == b"x"
    put_shard(store, "s1", ["new"], ["a"], np.ones((1, DIM)), etag="2")
    assert build_index(store, POOL, ENCODER, ["s0", "s1"], None).index_id != first.index_id
    assert build_index(store, POOL, ENCODER, ["s0"], None).index_id != first.index_id


def test_rows_without_label_drop_out_and_are_counted(store):
    put_shard(store, "s", ["a", "b", "c"], ["x", None, "x"], np.eye(3, DIM))
    index = build_index(store, POOL, ENCODER, ["s"], None)
    assert (index.n_images, index.n_rows, index.n_unlabelled) == (3, 2, 1)
    assert dict(index.label_counts) == {"x": 2}
    with pytest.raises(DataError, match="1 of 2 images are not in it, such as 'b'"):
        vectors_of(store, index, pa.array(["a", "b"]))


def test_a_labels_table_replaces_the_labels(store):
    put_shard(store, "s", ["a", "b", "c"], ["x", None, "x"], np.eye(3, DIM))
    labels = pa.table(
        {
            "image_id": ["b", "a", "b", "b", "elsewhere", "c"],
            "label": ["y", "y", "z", "y", "y", None],
        }
    )
    index = build_index(store, POOL, ENCODER, ["s"], labels)
    rows = pool_rows(store, index)
    assert rows.select(["image_id", "label"]).to_pylist() == [
        {"image_id": "a", "label": "y"},
        {"image_id": "b", "label": "y"},
        {"image_id": "b", "label": "z"},
    ]
    counts = (index.n_images, index.n_rows, index.n_unlabelled, index.n_extra_labels)
    assert counts == (3, 3, 1, 1)
    shuffled = build_index(store, POOL, ENCODER, ["s"], labels.take([3, 2, 1, 0, 5, 4]))
    assert shuffled.index_id == index.index_id
    vectors = vectors_of(store, index, pa.array(["b"]))
    assert vectors["label"].to_pylist() == ["y", "z"]


def test_no_label_at_all_gives_an_empty_index(store):
    put_shard(store, "s", ["a"], [None], np.eye(1, DIM))
    index = build_index(store, POOL, ENCODER, ["s"], None)
    assert index.n_rows == 0
    assert pool_rows(store, index).num_rows == 0
    assert vectors_of(store, index, pa.array([], pa.string())).num_rows == 0


def test_an_image_in_two_shards_counts_once_and_a_clash_is_refused(store):
    put_shard(store, "s0", ["a", "b"], ["x", "x"], np.eye(2, DIM))
    put_shard(store, "s1", ["b", "c"], ["x", "x"], np.eye(2, DIM))
    index = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    assert (index.n_images, index.n_rows, index.n_duplicates) == (4, 3, 1)
    assert pool_rows(store, index)["shard"].to_pylist() == ["s0", "s0", "s1"]
    put_shard(store, "s2", ["c"], ["x"], np.eye(1, DIM), contents=[content("other")])
    with pytest.raises(DataError, match="'c' names different images in the shards s1 and s2"):
        build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)


def test_a_failed_build_publishes_no_index(store, small_groups):
    random_pool(store)
    bad = np.ones((2, DIM))
    bad[1, 3] = np.nan
    put_shard(store, "s3", ["ok", "bad"], ["a", "z"], bad)
    with pytest.raises(ObjectUnreadable, match=r"1 vectors hold NaN or infinite numbers.*'bad'"):
        build_index(store, POOL, ENCODER, ["s0", "s3"], None)
    assert not [key for key in store.keys_under("index") if key.endswith("index.json")]


def test_bad_shards_are_refused(store):
    put_shard(store, "s", ["a"], ["x"], np.eye(1, DIM))
    put_shard(store, "wide", ["b"], ["x"], np.eye(1, DIM + 1))
    with pytest.raises(DataError, match="no shards"):
        build_index(store, POOL, ENCODER, [], None)
    with pytest.raises(DataError, match="shard gone is not embedded"):
        build_index(store, POOL, ENCODER, ["s", "gone"], None)
    with pytest.raises(EncoderMismatch, match=r"vectors of 9 numbers.*have 8"):
        build_index(store, POOL, ENCODER, ["s", "wide"], None)
    key = keys.embeddings(POOL, ENCODER, "s")
    store.write_table(keys.embeddings(POOL, "other", "s"), store.read_table(key))
    with pytest.raises(EncoderMismatch, match="made by encoder toy-encoder, expected other"):
        build_index(store, POOL, "other", ["s"], None)
    short = store.read_table(key).slice(1)
    store.write_table(key, short)
    with pytest.raises(ObjectUnreadable, match="0 rows, its metadata announces 1"):
        build_index(store, POOL, ENCODER, ["s"], None)
    with pytest.raises(StoreError):
        index_info(store, POOL, ENCODER, "none")


def test_on_an_object_store(s3_url, small_groups):
    store = Store(s3_url)
    made = random_pool(store)
    index = build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)
    assert sorted(pool_rows(store, index)["image_id"].to_pylist()) == sorted(made)
    wanted = pa.array(sorted(made)[::17])
    vectors = vectors_of(store, index, wanted)
    assert vectors["image_id"].to_pylist() == wanted.to_pylist()
