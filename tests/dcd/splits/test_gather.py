import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig, PoolConfig, load_config
from dcd.errors import ConfigError, DataError, LabelError
from dcd.sources.source import source_of, sources
from dcd.sources.tables import open_table
from dcd.splits import gather as gathering
from dcd.splits.gather import gather
from dcd.splits.label_table import read_label_table, read_labels
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix
from tests.case import write_case

DIM = 4


@pytest.fixture
def store(tmp_path) -> Store:
    """Two embedded shards of the source `own`: a (images a0…a4) and b (b0…b4)."""
    store = Store(str(tmp_path / "store"))
    for shard in "ab":
        ids = [f"{shard}{i}" for i in range(5)]
        vectors = np.arange(5 * DIM, dtype=np.float16) + (100 if shard == "b" else 0)
        table = pa.table(
            {
                "image_id": ids,
                "weak_label": ["cat", "cat", "dog", "dog", None],
                "content_hash": pa.array([i.encode().ljust(16) for i in ids], pa.binary(16)),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIM),
            }
        )
        table = schemas.conform(table, schemas.embeddings(DIM), "test")
        store.write_table(keys.embeddings("own", "enc", shard), table)
    return store


def labels(tmp_path, **columns) -> str:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_labels_pick_order_and_type_the_rows(tmp_path):
    uri = labels(
        tmp_path, image_id=["x", "b", "a"], role=["t", "e", "e"], label=[1, 2, 3], mode=[0, 1, 1]
    )
    found = read_labels(DataConfig(images="i", labels=uri, where="role = 'e'"), "test")
    assert found is not None
    assert found.to_pydict() == {"image_id": ["a", "b"], "label": ["3", "2"], "mode": ["1", "1"]}


def test_csv_labels_keep_leading_zeros(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image_id,label\n007,cat\n008,dog\n")
    found = read_labels(DataConfig(images="i", labels=str(path)), "test")
    assert found is not None
    assert found["image_id"].to_pylist() == ["007", "008"]


def test_a_named_label_column_is_used(tmp_path):
    uri = labels(tmp_path, image_id=["a"], species=["cat"])
    data = DataConfig(images="i", labels=uri, label_column="species")
    found = read_labels(data, "test")
    assert found is not None
    assert found["label"].to_pylist() == ["cat"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": ["a"], "species": ["cat"]}, "no column"),
        ({"id": ["a"], "label": ["cat"]}, "no column"),
        ({"image_id": ["a", "a"], "label": ["cat", "dog"]}, "twice"),
        ({"image_id": ["a", "b"], "label": ["cat", None]}, "without label"),
        ({"image_id": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "no row"),
    ],
)
def test_faulty_labels_are_refused_with_their_place(tmp_path, columns, message):
    data = DataConfig(images="i", labels=labels(tmp_path, **columns))
    with pytest.raises(LabelError, match=message) as refused:
        read_labels(data, "error_sample")
    assert "error_sample" in str(refused.value)


def test_a_whole_row_that_stands_twice_counts_once_and_is_told(tmp_path):
    rows = {"image_id": ["b", "a", "a", "a"], "label": ["dog", "cat", "cat", " cat"]}
    data = DataConfig(images="i", labels=labels(tmp_path, **rows))
    found = read_label_table(data, "error_sample")
    assert found is not None
    assert found.rows["image_id"].to_pylist() == ["a", "b"]
    assert "2 rows repeat another whole row; passed over" in found.notes[0]
    uri = labels(tmp_path, **rows, mode=["x", "x", "y", "x"])
    with pytest.raises(LabelError, match="lists 1 images twice or more, 0 of them under different"):
        read_label_table(DataConfig(images="i", labels=uri), "error_sample")


def test_a_pool_image_may_have_several_labels(tmp_path):
    uri = labels(tmp_path, image_id=["a", "a"], label=["dog", "cat"])
    found = read_labels(PoolConfig(images="i", labels=uri), "pool", several_per_image=True)
    assert found is not None
    assert found["label"].to_pylist() == ["cat", "dog"]


def test_a_bad_predicate_names_its_place(tmp_path):
    uri = labels(tmp_path, image_id=["a"], label=["cat"])
    with pytest.raises(ConfigError, match=r"test\.where"):
        read_labels(DataConfig(images="i", labels=uri, where="roll = 1"), "test")


def test_a_missing_or_broken_table_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_table(str(tmp_path / "absent.parquet"), "test.labels")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"broken\.parquet"):
        open_table(str(tmp_path / "broken.parquet"), "test.labels")


def test_gather_joins_labels_with_vectors_across_shards(store, tmp_path):
    uri = labels(tmp_path, image_id=["b1", "a2", "gone"], label=["x", "y", "z"])
    wanted = read_labels(DataConfig(images="i", labels=uri), "train")
    table = gather(store, "own", "enc", ["a", "b"], wanted, "train")
    assert table["image_id"].to_pylist() == ["a2", "b1"]
    assert table["label"].to_pylist() == ["y", "x"]
    assert table["shard"].to_pylist() == ["a", "b"]
    assert embedding_matrix(table)[1].tolist() == [104, 105, 106, 107]


def test_gather_without_labels_takes_those_of_the_source(store):
    with pytest.raises(LabelError, match="2 of 10 images have no label"):
        gather(store, "own", "enc", ["a", "b"], None, "test")


def test_gather_says_when_ids_do_not_match(store, tmp_path):
    uri = labels(tmp_path, image_id=["other"], label=["x"])
    wanted = read_labels(DataConfig(images="i", labels=uri), "train")
    with pytest.raises(DataError, match="none of its images"):
        gather(store, "own", "enc", ["a", "b"], wanted, "train")


def test_splits_that_share_images_share_a_source(tmp_path):
    config = load_config(write_case(tmp_path))
    found = sources(config)
    assert found[0].id == "colours"
    assert len(found) == 2


def test_csv_written_by_arrow_is_read(tmp_path):
    path = tmp_path / "t.csv"
    pacsv.write_csv(pa.table({"image_id": ["a"], "label": ["b"]}), path)
    table = open_table(str(path), "x").read(["image_id", "label"])
    assert table.to_pydict() == {"image_id": ["a"], "label": ["b"]}


def test_a_source_does_not_depend_on_who_asks():
    one = source_of(DataConfig(images="a/*.tar", labels="l.csv", where="x"))
    other = source_of(DataConfig(images="a/*.tar", labels="m.csv"))
    assert one == other


@pytest.mark.parametrize("at_once", [1, 6, 10**6])
def test_ids_are_looked_up_in_blocks_of_shards(store, tmp_path, monkeypatch, at_once):
    """More labels than ids, and fewer: either becomes the hash table."""
    monkeypatch.setattr(gathering, "_IDS_AT_ONCE", at_once)
    many = [f"other{i}" for i in range(50)]
    for ids in (["b1", "a2"], ["b1", "a2", *many]):
        uri = labels(tmp_path, image_id=ids, label=["x"] * len(ids))
        wanted = read_labels(DataConfig(images="i", labels=uri), "train")
        table = gather(store, "own", "enc", ["a", "b"], wanted, "train")
        assert table["image_id"].to_pylist() == ["a2", "b1"]
        assert table["shard"].to_pylist() == ["a", "b"]


def test_an_id_in_two_shards_is_refused_with_both(store, tmp_path):
    store.write_table(
        keys.embeddings("own", "enc", "c"), store.read_table(keys.embeddings("own", "enc", "a"))
    )
    uri = labels(tmp_path, image_id=["b1", "a2"], label=["x", "y"])
    wanted = read_labels(DataConfig(images="i", labels=uri), "train")
    with pytest.raises(DataError, match="'a2' stands in two shards, a and c"):
        gather(store, "own", "enc", ["a", "b", "c"], wanted, "train")


@pytest.mark.parametrize(("place", "refused"), [("train", True), ("debug_val", False)])
def test_an_encoder_that_sees_nothing_is_refused(store: Store, place: str, refused: bool):
    """Weights that overflow, or are all zero, give every picture one vector."""
    key = keys.embeddings("own", "enc", "a")
    table = store.read_table(key).slice(0, 4)
    same = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * DIM, np.float16)), DIM)
    at = table.column_names.index("embedding")
    table = table.set_column(at, "embedding", same)
    store.write_table(key, schemas.conform(table, schemas.embeddings(DIM), "test"))
    if not refused:
        assert gather(store, "own", "enc", ["a"], None, place).num_rows == 4
        return
    with pytest.raises(DataError, match="gives 4 pictures of different labels one and the same"):
        gather(store, "own", "enc", ["a"], None, place)
