"""The arithmetic of an estimate, from made-up shards and samples."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import DataConfig, IndexConfig
from dcd.embeddings.embed import ShardStats
from dcd.estimate.embedding import Pool, embedding_cost
from dcd.estimate.indexing import indexing_cost, selecting_cost
from dcd.estimate.parquet_cost import ReadCost
from dcd.estimate.pool_sample import PoolSample
from dcd.estimate.pool_state import PlannedIndex, PlannedShard
from dcd.index.plan import IndexPlan, Sources
from dcd.sources.records import Format, Shard
from dcd.store.requests import Requests, total
from dcd.tables import schemas
from tests.dcd.index.vector_pools import as_column, content

DIM, N = 100, 200


def rows() -> pa.Table:
    """schemas.embeddings and shard: 200 rows of labels a (three quarters) and b."""
    ids = [f"i{n:05d}" for n in range(N)]
    columns = [
        pa.array(ids),
        pa.array(["b" if n % 4 == 0 else "a" for n in range(N)]),
        pa.array([content(i) for i in ids], schemas.CONTENT_HASH),
        as_column(np.random.default_rng(0).standard_normal((N, DIM))),
    ]
    table = pa.table(columns, schema=schemas.embeddings(DIM))
    return table.append_column("shard", pa.repeat("s", N))


def sample(n_embedded: int = 10) -> PoolSample:
    return PoolSample(10, n_embedded, 100_000, 120_000, rows(), images_per_s=50)


def shard(name: str, kind: Format = "parquet", n_images: int | None = 1000) -> Shard:
    return Shard(name=name, uri=f"/pool/{name}", format=kind, n_images=n_images, etag="1")


def parquet(name: str, done: ShardStats | None = None, **looked: bool) -> PlannedShard:
    reading = None if done else ReadCost(5_000_000, Requests(n_get=3, n_head=1))
    return PlannedShard(shard(name), done, reading=reading, **looked)


def tar(name: str, n_bytes: int, done: ShardStats | None = None) -> PlannedShard:
    return PlannedShard(shard(name, "webdataset", None), done, archive_bytes=n_bytes)


def pool(
    shards: Sequence[PlannedShard], of: PoolSample | None = None, remote: bool = False
) -> Pool:
    data = DataConfig(images="/pool/*.parquet")
    return Pool(data, "enc", shards, of, rows(), 1, Requests(n_put=1), remote, remote)


def planned(work: IndexPlan) -> PlannedIndex:
    return PlannedIndex(work, Sources("recipe", (("a", "1"),)), None, 0)


BUILD = planned(IndexPlan("build", None, Requests(n_list=2)))


def test_counted_images_cost_what_their_files_and_the_sample_say():
    found = embedding_cost(pool([parquet("a"), parquet("b")], sample()), 50, 1)
    assert (found.n_rows, found.bytes_read) == (2000, 10_000_000)
    assert found.bytes_written == pytest.approx(2000 * 2 * DIM, rel=0.3)
    assert found.hours == pytest.approx(2000 / 50 / 3600)
    assert (found.pool_requests, found.store_requests) == (None, None)


def test_what_is_done_costs_a_look_and_no_more():
    done = parquet("a", ShardStats("a", 1000, 990, 10), is_there=True)
    found = embedding_cost(pool([done], remote=True), None, 1)
    assert (found.n_rows, found.bytes_read, found.bytes_written, found.hours) == (0, 0, 0, 0)
    assert found.store_requests == Requests(n_get=1, n_head=1, n_list=1, n_put=3)
    kept = parquet("a", ShardStats("a", 1000, 990, 10), is_there=True, is_looked_at=False)
    found = embedding_cost(pool([kept], remote=True), None, 1)
    assert found.store_requests == Requests(n_list=1, n_put=3)


def test_images_of_a_tar_follow_from_its_bytes():
    found = embedding_cost(pool([tar("a", 24_000_000)], sample()), 50, 1)
    assert (found.n_rows, found.bytes_read) == (2000, 24_000_000)


def test_a_finished_tar_tells_better_than_the_sample_how_many_images_a_byte_holds():
    done = tar("a", 6_000_000, ShardStats("a", 1000, 1000, 0))
    assert embedding_cost(pool([done, tar("b", 24_000_000)], sample()), 50, 1).n_rows == 4000


def test_images_that_cannot_be_embedded_get_no_rows():
    half = pool([parquet("a")], sample(n_embedded=5))
    assert embedding_cost(half, 50, 1).n_rows == 1000
    assert half.n_embedded == 500


def test_more_machines_change_the_hours_alone():
    of = pool([parquet("a")], sample(), remote=True)
    one, four = embedding_cost(of, 100, 1), embedding_cost(of, 100, 4)
    assert one.hours == pytest.approx(4 * (four.hours or 0))
    assert one.store_requests == four.store_requests


def test_a_speed_that_nobody_measured_is_said_to_be_unknown():
    found = embedding_cost(pool([parquet("a")], sample()), None, 1)
    assert found.hours is None
    assert "fewer images than a batch" in found.note


def test_single_files_are_a_request_each():
    folder = PlannedShard(shard("a", "folder"))
    costs = [embedding_cost(pool([p], sample(), True), 50, 1) for p in (parquet("a"), folder)]
    gets = [cost.pool_requests.n_get for cost in costs if cost.pool_requests]
    assert gets[1] - gets[0] >= 990


def test_codes_make_the_index_smaller_and_read_the_embeddings_twice():
    of = pool([parquet("a")], sample(), remote=True)
    exact = indexing_cost(of, BUILD, IndexConfig(sample_rows=1), None).stage
    coded = indexing_cost(of, BUILD, IndexConfig(sample_rows=1, storage="int8"), None).stage
    assert exact.n_rows == coded.n_rows == 1000
    assert exact.bytes_written - coded.bytes_written == pytest.approx(1000 * DIM, rel=0.1)
    assert coded.bytes_read == 2 * exact.bytes_read
    assert exact.store_requests == Requests(n_get=3, n_head=3, n_list=2, n_put=5)


def test_labels_of_a_table_take_the_place_of_the_weak_ones():
    of = pool([parquet("a")], sample())
    labels = pa.table({"weak_label": ["a", "a"], "label": ["x", "y"]})
    found = indexing_cost(of, BUILD, IndexConfig(), labels)
    assert found.counts == {"x": 750, "y": 750}
    assert found.stage.n_rows == 1500
    nobody = pa.table({"image_id": ["elsewhere"], "label": ["x"]})
    assert indexing_cost(of, BUILD, IndexConfig(), nobody).stage.n_rows == 0


def test_selecting_reads_the_failing_labels_once_a_seed_and_selection():
    of = pool([parquet("a")], sample(), remote=True)
    index = indexing_cost(of, BUILD, IndexConfig(), None)
    found = selecting_cost(of, index, [frozenset({"b"}), frozenset({"b", "?"})], 3)
    assert (found.n_rows, found.n_tasks) == (250, 6)
    assert found.bytes_read == pytest.approx(6 * 250 * 2 * DIM, rel=0.2)
    assert found.store_requests is not None
    assert found.store_requests.n_put == 0
    assert found.store_requests.n_get == 6 * 3  # the directory, and a footer and one row group
    unknown = selecting_cost(of, index, [None], 1)
    assert unknown.n_rows == 0
    assert "not known" in unknown.note


def test_requests_add_up():
    assert total([Requests(1, 2, 3, 4) * 2, Requests(n_put=1)]) == Requests(2, 4, 6, 9)
