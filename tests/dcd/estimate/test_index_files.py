"""The size of an index as it is told beforehand, beside the files that are then written."""

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import IndexConfig
from dcd.embeddings.read import find_embedded
from dcd.estimate.index_files import index_files
from dcd.estimate.planned_runs import planned_runs
from dcd.index.build import build_index
from dcd.index.info import IndexInfo
from dcd.index.plan import Sources, read_sources
from dcd.index.read import read_directory
from dcd.index.work import IndexFiles
from dcd.store import Store, keys
from dcd.tables import schemas
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard

N_SHARDS, SHARD_ROWS, DIM = 4, 1000, 192


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def names_of(n_shards: int, first: int = 0) -> list[str]:
    return [f"pool-{n:04d}" for n in range(first, first + n_shards)]


def put_pool(store: Store, names: list[str], n_labels: int, shard_rows: int = SHARD_ROWS) -> None:
    """Vectors as a network with rectified outputs makes them; labels of very unequal sizes."""
    for name in names:
        rng = np.random.default_rng(int(name[-4:]))
        vectors = np.maximum(rng.standard_normal((shard_rows, DIM)) - 0.3, 0)
        labels = [f"label-{int(n):03d}" for n in n_labels * rng.random(shard_rows) ** 2]
        put_shard(store, name, [f"{name}/{n:06d}" for n in range(shard_rows)], labels, vectors)


def rows_of(store: Store, names: list[str]) -> pa.Table:
    """schemas.clustered"""
    tables = []
    for shard in find_embedded(store, POOL, ENCODER, names):
        rows = store.read_table(shard.key).replace_schema_metadata(None)
        tables.append(rows.append_column("shard", pa.repeat(shard.name, rows.num_rows)))
    return schemas.conform(pa.concat_tables(tables), schemas.clustered(DIM), "rows")


def written(store: Store, index: IndexInfo) -> dict[str, int]:
    found = store.keys_under(keys.index(POOL, ENCODER, index.index_id))
    return {key.rpartition("/")[2]: len(store.read_bytes(key)) for key in found}


def told(store: Store, index: IndexInfo, rows: pa.Table, config: IndexConfig) -> IndexFiles:
    sources: Sources = read_sources(store, index.prefix)
    return index_files(rows, index.label_counts, sources, config)


@pytest.mark.parametrize("storage", ["float16", "int8", "pq"])
@pytest.mark.parametrize("n_labels", [3, 40])
def test_of_all_rows_it_is_as_good_as_right(store, storage, n_labels):
    names = names_of(N_SHARDS)
    put_pool(store, names, n_labels)
    config = IndexConfig(storage=storage, pq_bytes=16)
    index = build_index(store, POOL, ENCODER, names, None, config)
    files = told(store, index, rows_of(store, names), config)
    real = written(store, index)
    print(storage, n_labels, sum(files.each) / sum(real.values()))
    # The numbers of a product quantiser are the one part that is only likened.
    near = 0.02 if storage == "pq" else 0.002
    assert sum(files.each) == pytest.approx(sum(real.values()), rel=near)
    assert len(files.each) == len(real)
    assert sum(files.vectors) == pytest.approx(real["vectors-00000.parquet"], rel=near)


@pytest.mark.parametrize("storage", ["float16", "int8", "pq"])
def test_of_an_eighth_of_the_rows_it_is_within_five_percent(store, storage):
    names = names_of(N_SHARDS)
    put_pool(store, names, 40)
    config = IndexConfig(storage=storage, pq_bytes=16)
    index = build_index(store, POOL, ENCODER, names, None, config)
    few = rows_of(store, names[:1])
    files = told(store, index, few.take(np.arange(0, few.num_rows, 2)), config)
    real = sum(written(store, index).values())
    # Parquet packs the sample's numbers by 14 bits or by 15: a step of 7 % of half of the index.
    assert sum(files.each) == pytest.approx(real, rel=0.05)


def test_lists_and_a_smaller_sample_are_told_too(store):
    names = names_of(N_SHARDS)
    put_pool(store, names, 3)
    config = IndexConfig(max_scan_bytes=2**19, sample_rows=300)
    index = build_index(store, POOL, ENCODER, names, None, config)
    assert index.lists
    files = told(store, index, rows_of(store, names), config)
    real = written(store, index)
    assert sum(files.each) == pytest.approx(sum(real.values()), rel=0.01)
    assert len(files.each) == len(real)


def test_appending_writes_the_new_rows_and_the_whole_sample(store):
    names, new = names_of(N_SHARDS), names_of(1, N_SHARDS)
    put_pool(store, names, 40)
    base = build_index(store, POOL, ENCODER, names, None)
    put_pool(store, new, 40)
    index = build_index(store, POOL, ENCODER, names + new, None)
    assert index.segments == (base.index_id, index.index_id)
    more = {
        label: n - base.label_counts.get(label, 0)
        for label, n in index.label_counts.items()
        if n > base.label_counts.get(label, 0)
    }
    files = index_files(
        rows_of(store, names + new),
        more,
        read_sources(store, index.prefix),
        IndexConfig(),
        base,
        read_directory(store, base),
    )
    real = written(store, index)
    assert sum(files.each) == pytest.approx(sum(real.values()), rel=0.01)
    assert sum(files.vectors) < 0.3 * sum(files.each)


@pytest.mark.parametrize("n_labels", [1, 7, 300])
def test_the_directory_is_planned_as_it_is_then_written(store, n_labels):
    names = names_of(2)
    put_pool(store, names, n_labels, shard_rows=3000)
    index = build_index(store, POOL, ENCODER, names, None)
    counts = {(label, -1): n for label, n in index.label_counts.items()}
    planned = planned_runs(counts, 2 * DIM, index.prefix)
    assert planned.to_pylist() == read_directory(store, index).to_pylist()
