"""An index in shares on every runner: the bytes of one process, also where workers are killed.

Nothing is faked: a worker is killed with SIGKILL while it sorts rows.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from prefect import flow
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings

from dcd.config import IndexConfig, PoolConfig, RunnerConfig
from dcd.errors import IndexingFailed
from dcd.index import sort
from dcd.index.info import IndexInfo
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store, keys
from flows.clustering import clustered
from flows.embed_pool import EmbeddedSource
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard
from tests.flows.test_runners import KINDS, Kind
from tests.killed import holders_killed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # of Ray starting again and again

DIM, N_SHARDS, N_ROWS = 128, 4, 30_000  # so many that a worker can be met at work
PART_ROWS = 20_000
DATA = PoolConfig(name=POOL, images="nowhere/*.parquet")


@pytest.fixture(scope="module", autouse=True)
def prefect_api(prefect_home: str) -> Iterator[None]:
    server = SubprocessASGIServer()
    server.start(timeout=180)
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield
    server.stop()


@pytest.fixture(autouse=True)
def no_index(embedded: tuple[Store, EmbeddedSource]) -> None:
    """Nothing that a test before has left."""
    taken_away(embedded[0])


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of all workers; files of an index hold few rows."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # its sockets want a short path
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(sort, "MAX_PART_BYTES", 2 * DIM * PART_ROWS)
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * DIM * 5_000)
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EmbeddedSource]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    rng = np.random.default_rng(0)
    shards = []
    for number in range(N_SHARDS):
        name = f"s{number}"
        ids = [f"{name}-{i:05d}" for i in range(N_ROWS)]
        labels = [f"l{i % 7}" for i in range(N_ROWS)]
        vectors = rng.standard_normal((N_ROWS, DIM), np.float32)
        put_shard(store, name, ids, labels, vectors)
        shards.append(Shard(name, f"memory/{name}.tar", "webdataset", N_ROWS, "1"))
    n = N_SHARDS * N_ROWS
    source = Source(POOL, DATA)
    return store, EmbeddedSource(source, ENCODER, tuple(shards), n, n, 0, 0, (), 0.0, 0, 0)


@flow
def index_flow(store: str, embedded: EmbeddedSource, runner: RunnerConfig) -> IndexInfo:
    return clustered(store, embedded, DATA, IndexConfig(sample_rows=1000), runner)


def indexed(of: tuple[Store, EmbeddedSource], kind: Kind | None) -> IndexInfo:
    store, source = of
    runner = RunnerConfig() if kind is None else RunnerConfig(kind=kind, max_workers=2)
    return index_flow(store.url, source, runner)


def taken_away(store: Store) -> dict[str, bytes]:
    files = {key: store.read_bytes(key) for key in store.keys_under(keys.INDEXES)}
    for key in files:
        store.delete(key)
    return files


def sorters_killed(scratch: Path, at_most: int | None = None) -> AbstractContextManager[set[int]]:
    """Kill every process that holds a folder to sort in; gives the ids of those that were."""
    return holders_killed(lambda name: name.startswith(f"{scratch}/dcd-scratch-cluster-"), at_most)


@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_live_and_workers_that_die_write_the_same_bytes(embedded, scratch, kind: Kind):
    store, _ = embedded
    alone = indexed(embedded, None)
    expected = taken_away(store)
    assert sum("/vectors-" in key for key in expected) >= N_SHARDS * N_ROWS // PART_ROWS

    assert indexed(embedded, kind) == alone
    assert taken_away(store) == expected

    with sorters_killed(scratch, at_most=1) as killed:
        assert indexed(embedded, kind) == alone
    assert len(killed) == 1
    assert taken_away(store) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_that_kills_every_worker_is_named_and_leaves_no_index(
    embedded, scratch, kind: Kind
):
    store, _ = embedded
    with sorters_killed(scratch) as killed, pytest.raises(IndexingFailed, match="out of memory"):
        indexed(embedded, kind)
    assert len(killed) >= 2  # once among others, once alone
    assert not [key for key in store.keys_under(keys.INDEXES) if key.endswith("index.json")]
    made = indexed(embedded, kind)  # the cause is gone
    files = taken_away(store)
    assert indexed(embedded, None) == made
    assert taken_away(store) == files
