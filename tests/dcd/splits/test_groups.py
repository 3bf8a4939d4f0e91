from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from dcd.config import DataConfig, PoolConfig
from dcd.errors import LabelError, ObjectUnreadable
from dcd.sources.source import source_of
from dcd.splits import groups
from dcd.splits.groups import image_groups, read_groups
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import vector_lists


def labelled(folder: Path, text: str) -> DataConfig:
    path = folder / "labels.csv"
    path.write_text(text)
    return DataConfig(images=str(folder), labels=str(path), group_column="burst")


def split_of(store: Store, vectors: np.ndarray) -> SplitInfo:
    """A split of images a, b, c, … in this order."""
    ids = [chr(ord("a") + n) for n in range(len(vectors))]
    schema = schemas.labelled_features(vectors.shape[1])
    columns = {
        "image_id": ids,
        "label": ["cat"] * len(ids),
        "mode": pa.nulls(len(ids), pa.string()),
        "content_hash": pa.array([b"%016d" % n for n in range(len(ids))], schemas.CONTENT_HASH),
        "embedding": vector_lists(vectors.astype(np.float16), schema.field("embedding").type),
    }
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    store.write_table(keys.split("s"), table)
    source = source_of(DataConfig(images="pictures"))
    return SplitInfo("s", "test", source, len(ids), len(ids), False)


def test_a_column_names_the_groups_and_a_blank_one_stands_alone(tmp_path: Path):
    data = labelled(tmp_path, "image_id,label,burst\na,cat,01\nb,cat, 01\nc,cat,\nd,dog,1\n")
    store = Store(str(tmp_path / "store"))
    found = image_groups(store, split_of(store, np.eye(4)), data, 0.15)
    assert found.to_pylist() == [
        {"image_id": "a", "group": "01"},
        {"image_id": "b", "group": "01"},
        {"image_id": "d", "group": "1"},
    ]


def test_without_a_column_near_copies_are_a_group(tmp_path: Path):
    vectors = np.eye(4)
    vectors[3] = vectors[1] + [0.05, 0, 0, 0]
    store = Store(str(tmp_path / "store"))
    data = DataConfig(images="pictures")
    found = image_groups(store, split_of(store, vectors), data, 0.15)
    assert found.to_pylist() == [
        {"image_id": "b", "group": "near copies of b"},
        {"image_id": "d", "group": "near copies of b"},
    ]
    assert image_groups(store, split_of(store, vectors), data, 0.0).num_rows == 0


def test_groups_of_a_large_split_are_kept_and_are_those_found_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vectors = np.random.default_rng(0).normal(size=(2000, 8))
    vectors[7] = vectors[1900] * 1.01
    data = DataConfig(images="pictures")
    for store in (Store(str(tmp_path / name)) for name in ("one", "other")):
        first = image_groups(store, split_of(store, vectors), data, 0.1)
        assert first.num_rows >= 2
        groups._near_copies.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(groups, "copy_groups", lambda *_: pytest.fail("looked for again"))
            assert image_groups(store, split_of(store, vectors), data, 0.1).equals(first)
        (kept,) = store.keys_under("copies")
        assert store.read_table(kept).column_names == ["number"]
        store.write_raw(kept, store.read_raw(kept)[:50])
        groups._near_copies.cache_clear()
        with pytest.raises(ObjectUnreadable, match=kept):  # a run sets it aside, and
            image_groups(store, split_of(store, vectors), data, 0.1)
        store.delete(kept)
        assert image_groups(store, split_of(store, vectors), data, 0.1).equals(first)


def test_a_column_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(LabelError, match=r"has no column \['burst'\]; it has .*image_id"):
        read_groups(labelled(tmp_path, "image_id,label\na,cat\n"), "test")


def test_an_image_in_two_groups_is_refused(tmp_path: Path):
    data = labelled(tmp_path, "image_id,label,burst\na,cat,1\na,cat,2\nb,cat,1\n")
    with pytest.raises(LabelError, match=r"1 images stand in two groups \(burst\), such as 'a'"):
        read_groups(data, "test")


def test_a_group_column_needs_a_table_and_a_judge():
    with pytest.raises(ValidationError, match="no `labels` are given"):
        DataConfig(images="pictures", group_column="burst")
    with pytest.raises(ValidationError, match="the pool's do not"):
        PoolConfig(images="pictures", labels="labels.csv", group_column="burst")


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([[1], [1]], "column burst holds no groups: the group is a list"),
        ([None, None], "column burst is blank in every row"),
        ([" ", None], "column burst is blank in every row"),
    ],
)
def test_a_column_that_names_no_group_is_refused(tmp_path: Path, column: list, told: str):
    """Images would count as unrelated, and intervals as narrow as if they were."""
    table = pa.table({"image_id": ["a", "b"], "label": ["cat", "cat"], "burst": column})
    pq.write_table(table, tmp_path / "l.parquet")
    labels = str(tmp_path / "l.parquet")
    with pytest.raises(LabelError, match=told):
        read_groups(DataConfig(images="i", labels=labels, group_column="burst"), "test")
