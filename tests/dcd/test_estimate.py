import pytest

from dcd.embedding import ShardStats
from dcd.estimate import PlannedShard, PoolSample, estimate
from dcd.index_config import IndexConfig
from dcd.pool import Format, Shard

DIM = 100
SAMPLE = PoolSample(
    n_images=10, image_bytes=100_000, tar_bytes=120_000, row_bytes=2_500, images_per_s=50
)
NO_SAMPLE_ROWS = IndexConfig(sample_rows=1)


def shard(name: str, kind: Format = "parquet", n_images: int | None = 1000) -> Shard:
    return Shard(name=name, uri=f"/pool/{name}", format=kind, n_images=n_images, etag="1")


def test_counted_images_cost_what_the_sample_cost():
    planned = [PlannedShard(shard("a"), None, None), PlannedShard(shard("b"), None, None)]
    found = estimate(planned, SAMPLE, NO_SAMPLE_ROWS, DIM, n_tasks=2)
    assert (found.n_images_left, found.n_counted, found.n_shards_left) == (2000, 2000, 2)
    assert found.bytes_read == 2000 * 10_000
    assert found.embedding_bytes == 2000 * 250
    assert found.index_bytes == pytest.approx(2000 * 250, abs=250)
    assert found.hours == pytest.approx(2000 / 50 / 3600)


def test_what_is_done_costs_nothing_but_its_place_in_the_index():
    done = PlannedShard(shard("a"), None, ShardStats("a", 1000, 990, 10))
    found = estimate([done], None, NO_SAMPLE_ROWS, DIM, n_tasks=1)
    assert (found.n_shards_left, found.n_images_left, found.n_images_done) == (0, 0, 1000)
    assert (found.bytes_read, found.embedding_bytes, found.hours) == (0, 0, 0)
    assert found.index_bytes >= 1000 * 2 * DIM


def test_images_of_a_tar_follow_from_its_bytes():
    tar = PlannedShard(shard("a", "webdataset", None), 24_000_000, None)
    found = estimate([tar], SAMPLE, NO_SAMPLE_ROWS, DIM, n_tasks=1)
    assert (found.n_images_left, found.n_counted) == (2000, 0)
    assert found.bytes_read == 24_000_000


def test_a_finished_tar_tells_better_than_the_sample_how_many_images_a_byte_holds():
    done = PlannedShard(shard("a", "webdataset", None), 6_000_000, ShardStats("a", 1000, 1000, 0))
    left = PlannedShard(shard("b", "webdataset", None), 24_000_000, None)
    assert estimate([done, left], SAMPLE, NO_SAMPLE_ROWS, DIM, 2).n_images_left == 4000


def test_more_machines_and_a_rate_of_ones_own_change_the_hours_alone():
    planned = [PlannedShard(shard("a", n_images=3600), None, None)]
    one = estimate(planned, SAMPLE, NO_SAMPLE_ROWS, DIM, 1, images_per_s=100)
    four = estimate(planned, SAMPLE, NO_SAMPLE_ROWS, DIM, 1, images_per_s=100, n_machines=4)
    assert one.hours == pytest.approx(0.01)
    assert four.hours == pytest.approx(0.0025)
    assert four.n_requests == one.n_requests


def test_codes_make_the_index_smaller():
    planned = [PlannedShard(shard("a"), None, None)]
    exact = estimate(planned, SAMPLE, NO_SAMPLE_ROWS, DIM, 1).index_bytes
    coded = IndexConfig(sample_rows=1, storage="int8")
    assert exact - estimate(planned, SAMPLE, coded, DIM, 1).index_bytes == 1000 * DIM


def test_single_files_are_a_request_each():
    archive = [PlannedShard(shard("a"), None, None)]
    files = [PlannedShard(shard("a", "folder"), None, None)]
    requests = [estimate(p, SAMPLE, NO_SAMPLE_ROWS, DIM, 1).n_requests for p in (archive, files)]
    assert requests[1] - requests[0] >= 990


def test_what_is_left_needs_a_sample():
    with pytest.raises(ValueError, match="no sample"):
        estimate([PlannedShard(shard("a"), None, None)], None, NO_SAMPLE_ROWS, DIM, 1)
