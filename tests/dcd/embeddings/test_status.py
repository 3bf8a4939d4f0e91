from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from dcd.embeddings.embed import EmbeddedShard, ShardStats, publish
from dcd.embeddings.status import (
    FailedShard,
    ShardState,
    Verification,
    note_failures,
    noted_failures,
    pool_status,
    shard_states,
    summarize,
    verify,
)
from dcd.errors import DataError
from dcd.sources.records import Shard
from dcd.sources.shards import shards_table
from dcd.store import Store, keys
from dcd.tables import schemas

DIM = 2
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def shard(name: str, etag: str = "1") -> Shard:
    return Shard(name, f"{name}.tar", "webdataset", None, etag)


def embedded(name: str, n: int, n_rejected: int = 0) -> EmbeddedShard:
    table = pa.table(
        {
            "image_id": [f"{name}/{i}" for i in range(n)],
            "weak_label": ["cat"] * n,
            "content_hash": pa.array([bytes([i] * 16) for i in range(n)], pa.binary(16)),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(np.ones(n * DIM, np.float16)), DIM
            ),
        }
    )
    rows = [
        {"image_id": f"{name}/r{i}", "stage": "decode", "reason": "x"} for i in range(n_rejected)
    ]
    return EmbeddedShard(
        schemas.conform(table, schemas.embeddings(DIM), name),
        pa.Table.from_pylist(rows, schemas.REJECTS),
        ShardStats(name, n + n_rejected, n, n_rejected),
    )


@pytest.fixture
def store(tmp_path) -> Store:
    """Shards a (done), b (done, one reject), c (never embedded), d (failed)."""
    store = Store(str(tmp_path))
    store.write_table(keys.shards("p"), shards_table([shard(n) for n in "abcd"]))
    publish(store, "p", "e", shard("a"), embedded("a", 3))
    publish(store, "p", "e", shard("b"), embedded("b", 2, 1))
    note_failures(store, "p", "e", [FailedShard("d", "DataError: cut off")])
    return store


def test_states_and_counts(store):
    states = shard_states(store, "p", "e")
    assert [s.state for s in states] == ["done", "done", "missing", "failed"]
    status = summarize(states, [])
    assert (status.n_done, status.n_failed, status.n_missing) == (2, 1, 1)
    assert (status.n_images, status.n_embedded, status.n_rejected) == (6, 5, 1)
    assert status.images_per_s is None


def test_a_changed_source_shard_is_missing(store):
    store.write_table(keys.shards("p"), shards_table([shard("a", etag="2")]))
    assert [s.state for s in shard_states(store, "p", "e")] == ["missing"]


def test_a_later_run_without_failures_clears_the_notes(store):
    note_failures(store, "p", "e", [])
    assert noted_failures(store, "p", "e") == []


def test_rate_and_time_left_come_from_the_publishing_times():
    done = [ShardState(shard(n), "done", ShardStats(n, 100, 100, 0)) for n in "abc"]
    states = [*done, ShardState(shard("d"), "missing")]
    status = summarize(states, [EPOCH + timedelta(seconds=10 * i) for i in range(3)])
    assert status.images_per_s == pytest.approx(10)
    assert status.seconds_left == pytest.approx(10)


def test_a_pause_between_two_runs_does_not_slow_the_rate():
    done = [ShardState(shard(n), "done", ShardStats(n, 100, 100, 0)) for n in "abcdef"]
    seconds = [0, 10, 20, 80_000, 80_010, 80_020]
    status = summarize(done, [EPOCH + timedelta(seconds=s) for s in seconds])
    assert status.images_per_s == pytest.approx(10)


def test_the_status_reads_the_times_from_the_store(store):
    status = pool_status(store, "p", "e")
    assert (status.n_done, status.n_failed, status.n_missing) == (2, 1, 1)
    assert status.images_per_s is not None
    assert status.seconds_left is not None


def test_a_pool_that_was_never_listed_is_told(store):
    with pytest.raises(DataError, match="run dcd embed first"):
        pool_status(store, "elsewhere", "e")


def test_verify_finds_nothing_in_a_whole_store(store):
    assert verify(store, "p", "e") == Verification(4, 2, 6, ())


def test_verify_names_a_shard_with_missing_rejects(store):
    store.delete(keys.rejects("p", "e", "b"))
    assert [fault.shard for fault in verify(store, "p", "e").faults] == ["b"]


def test_verify_counts_rows_against_the_footer(store):
    key = keys.embeddings("p", "e", "a")
    short = store.read_table(key).slice(0, 2)
    store.write_table(key, short, metadata=store.read_metadata(key))
    faults = verify(store, "p", "e").faults
    assert len(faults) == 1
    assert "2 embeddings + 0 rejects, but 3 images" in faults[0].message
