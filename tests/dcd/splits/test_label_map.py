"""Weak labels (queries, tags) become classes when the pool is clustered, in DuckDB."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import PoolConfig
from dcd.errors import LabelError
from dcd.index.build import cluster_pool
from dcd.index.read import pool_rows
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.label_map import read_label_map, read_pool_labels
from dcd.store import Store
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard

QUERIES = ["tabby cat", "kitten", "beagle", "tabby cat", "cat and dog", "invoice", None]


def pool(path: Path, rows: list[tuple[str | None, str | None]], **more: str) -> PoolConfig:
    """A pool whose label map holds these rows, as CSV or Parquet by the suffix."""
    if path.suffix == ".csv":
        lines = ["weak_label,label", *(f"{query or ''},{label or ''}" for query, label in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        queries, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"weak_label": queries, "label": labels}), path)
    return PoolConfig(images="i", label_map=str(path), **more)  # pyright: ignore


CLASSES: list[tuple[str | None, str | None]] = [
    ("tabby cat", "cat"),
    ("kitten", "cat"),
    ("beagle", "dog"),
    ("cat and dog", "cat"),
    ("cat and dog", "dog"),
    ("siamese", "cat"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Seven images i0 … i6 in two shards, found by QUERIES."""
    store = Store(str(tmp_path / "store"))
    vectors = np.arange(14, dtype=np.float32).reshape(7, 2)
    put_shard(store, "s0", [f"i{n}" for n in range(4)], QUERIES[:4], vectors[:4])
    put_shard(store, "s1", [f"i{n}" for n in range(4, 7)], QUERIES[4:], vectors[4:])
    return store


def cluster(store: Store, config: PoolConfig):
    shards = [Shard(name, f"memory/{name}.tar", "webdataset", None, "1") for name in ("s0", "s1")]
    return cluster_pool(store, Source(POOL, config), ENCODER, shards, config)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_many_queries_are_one_class_and_an_image_keeps_all_of_its_classes(
    store: Store, tmp_path: Path, suffix: str
):
    index = cluster(store, pool(tmp_path / f"map.{suffix}", CLASSES))
    rows = pool_rows(store, index).to_pylist()
    assert [(row["label"], row["image_id"]) for row in rows] == [
        *(("cat", f"i{n}") for n in (0, 1, 3, 4)),
        *(("dog", f"i{n}") for n in (2, 4)),
    ]
    # The invoice and the image without a query stay embedded and are counted.
    assert (index.n_images, index.n_unlabelled, index.n_extra_labels) == (7, 2, 1)


def test_another_map_makes_another_index_of_the_same_embeddings(store: Store, tmp_path: Path):
    first = cluster(store, pool(tmp_path / "a.csv", CLASSES))
    before = store.published_at("embeddings")
    second = cluster(store, pool(tmp_path / "b.csv", [("invoice", "paper")]))
    assert second.index_id != first.index_id
    assert second.label_counts == {"paper": 1}
    assert store.published_at("embeddings") == before
    shuffled = [*CLASSES[::-1], CLASSES[0]]
    assert cluster(store, pool(tmp_path / "c.csv", shuffled)).index_id == first.index_id


def test_the_map_applies_to_a_labels_table_too(store: Store, tmp_path: Path):
    rows = {"image_id": ["i0", "i0", "i1", "i5"], "label": ["kitten", "beagle", "boat", "kitten"]}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    config = pool(tmp_path / "map.csv", CLASSES, labels=str(tmp_path / "labels.parquet"))
    index = cluster(store, config)
    assert Counter(index.label_counts) == {"cat": 2, "dog": 1}
    found = pool_rows(store, index)
    assert found["image_id"].to_pylist() == ["i0", "i5", "i0"]


def test_queries_are_text_and_blanks_around_them_do_not_count(tmp_path: Path):
    found = read_label_map(pool(tmp_path / "map.csv", [(" 007 ", "1 "), ("007", "1")]))
    assert found is not None
    assert found.to_pylist() == [{"weak_label": "007", "label": "1"}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("kitten", None)], "1 rows without label"),
        ([("", "cat"), ("kitten", "cat")], "1 rows without weak_label"),
        ([], "no rows"),
    ],
)
def test_gaps_are_refused(tmp_path: Path, rows, message: str):
    with pytest.raises(LabelError, match=message) as caught:
        read_label_map(pool(tmp_path / "map.csv", rows))
    assert "pool.label_map" in str(caught.value)


def test_other_columns_are_named(tmp_path: Path):
    (tmp_path / "map.csv").write_text("query,class\nkitten,cat\n")
    with pytest.raises(LabelError, match=r"expected the columns weak_label and label.*query"):
        read_label_map(PoolConfig(images="i", label_map=str(tmp_path / "map.csv")))


def test_a_map_of_other_labels_is_refused(tmp_path: Path):
    pq.write_table(pa.table({"image_id": ["i0"], "label": ["boat"]}), tmp_path / "labels.parquet")
    config = pool(tmp_path / "map.csv", CLASSES, labels=str(tmp_path / "labels.parquet"))
    with pytest.raises(LabelError, match=r"'boat'.*'beagle'"):
        read_pool_labels(config)
