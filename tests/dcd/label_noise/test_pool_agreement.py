import shutil
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest

from dcd.index.build import build_index
from dcd.index.read import shared_sample
from dcd.label_noise.agreement import fit_reference, neighbor_labels
from dcd.label_noise.pool_agreement import (
    known_votes,
    pool_agreement,
    pool_reference,
    reference_of,
    reference_tables,
)
from dcd.store import Store, keys
from dcd.tables.schemas import CONTENT_HASH
from tests.dcd.index.vector_pools import ENCODER, POOL, as_column, content, put_shard


def test_a_wrong_label_has_no_company_and_the_table_is_made_once(tmp_path):
    rng = np.random.default_rng(0)
    store = Store(str(tmp_path))
    centres = np.repeat(np.eye(4)[:2], 30, axis=0)
    labels = ["dog", *["cat"] * 29, *["dog"] * 30]
    put_shard(
        store, "a", [f"i{n:02d}" for n in range(60)], labels, centres + rng.normal(0, 0.1, (60, 4))
    )
    index = build_index(store, POOL, ENCODER, ["a"], None)
    found = pool_agreement(store, index)
    agreement = dict(
        zip(found["image_id"].to_pylist(), found["label_agreement"].to_pylist(), strict=True)
    )
    assert agreement.pop("i00") == 0
    assert min(agreement.values()) == pytest.approx(0.95, abs=0.05)
    key = keys.pool_agreement(POOL, ENCODER, index.index_id)
    before = store.fs.info(store.path(key))["mtime"]
    assert pool_agreement(store, index) == found
    assert store.fs.info(store.path(key))["mtime"] == before


def test_the_reference_is_kept_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    sample = pa.table(
        {
            "weak_label": ["cat", "dog", "cat", "cow"] * 15,
            "content_hash": pa.array([content(f"c{n % 50}") for n in range(60)], CONTENT_HASH),
            "embedding": as_column(rng.normal(size=(60, 300))),
        }
    )
    fitted = fit_reference(sample)
    store = Store(str(tmp_path))
    for name, table in zip(("rows", "directions"), reference_tables(fitted), strict=True):
        store.write_table(f"{name}.parquet", table)
    read = reference_of(store.read_table("rows.parquet"), store.read_table("directions.parquet"))
    for field in fields(fitted):
        before, after = getattr(fitted, field.name), getattr(read, field.name)
        same = np.array_equal if isinstance(before, np.ndarray) else pa.Array.equals
        assert same(before, after), field.name
    assert fitted.directions.shape == (300, 256)
    votes = neighbor_labels(fitted, sample)
    assert np.array_equal(neighbor_labels(read, sample), votes)


def test_a_kept_reference_needs_no_sample(tmp_path):
    store = Store(str(tmp_path / "one"))
    rng = np.random.default_rng(0)
    ids = [f"i{n:02d}" for n in range(30)]
    put_shard(store, "a", ids, ["cat", "dog"] * 15, rng.normal(size=(30, 4)))
    index = build_index(store, POOL, ENCODER, ["a"], None)
    fitted = pool_reference(store, index)
    store.delete(f"{index.prefix}/sample.parquet")
    elsewhere = Store(str(shutil.copytree(tmp_path / "one", tmp_path / "other")))
    assert np.array_equal(pool_reference(elsewhere, index).vectors, fitted.vectors)


def test_votes_that_are_kept_are_those_that_are_counted_anew(tmp_path):
    rng = np.random.default_rng(0)
    store = Store(str(tmp_path))
    ids = [f"i{n:03d}" for n in range(700)]
    labels = [("cat", "dog", "cow")[n % 3] for n in range(700)]
    put_shard(store, "a", ids, labels, rng.normal(size=(700, 300)))
    index = build_index(store, POOL, ENCODER, ["a"], None)
    assert known_votes(store, index) is None
    pool_agreement(store, index)
    known, reference = known_votes(store, index), pool_reference(store, index)
    assert known is not None
    sample = shared_sample(store, index)
    for first, n in ((0, 700), (3, 1), (65, 64), (130, 257)):  # whatever is asked together
        rows = sample.slice(first, n)
        counted = neighbor_labels(reference, rows)
        assert np.array_equal(neighbor_labels(reference, rows, known=known), counted)
    others = pa.table(
        {
            "weak_label": ["cat", "cow"],
            "content_hash": pa.array([content("new"), content("newer")], CONTENT_HASH),
            "embedding": as_column(rng.normal(size=(2, 300))),
        }
    )
    some = sample.select(others.column_names).slice(9, 2)
    others = others.cast(some.schema)
    mixed = pa.concat_tables([others.slice(0, 1), some, others.slice(1)])
    found = neighbor_labels(reference, mixed, known=known)
    assert np.array_equal(found, neighbor_labels(reference, mixed))
