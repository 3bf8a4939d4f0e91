"""Workers that die: what they held is tried once more alone, the rest is embedded all the same.

Nothing is faked: a worker is killed with SIGKILL while it has the archive of a shard open.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings

from dcd.config import EmbedConfig, EncoderConfig, PoolConfig, RunnerConfig
from dcd.embeddings.status import noted_failures, pool_status
from dcd.encoders.encoder import load_encoder
from dcd.errors import EmbeddingFailed
from dcd.store import Store
from flows.embed_pool import embed_pool, summary
from tests.case import LABELS, png
from tests.killed import holders_killed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Kind = Literal["process", "ray", "dask"]
EVERY: tuple[Kind, ...] = ("process", "ray", "dask")
# Ray and Dask start a worker many times before they give a shard up: minutes, so on demand.
KINDS: tuple[Kind, ...] = EVERY if "DCD_TEST_ALL_RUNNERS" in os.environ else ("process",)
N_SHARDS, N_IMAGES = 5, 4
LONG = "pool-1"  # so many images that its worker can be met at work
N_LONG = 600


@pytest.fixture(scope="module", autouse=True)
def prefect_api(prefect_home: str) -> Iterator[None]:
    """A server that is there before any archive is opened: what starts later may inherit it."""
    server = SubprocessASGIServer()
    server.start(timeout=180)
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield
    server.stop()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    rng = np.random.default_rng(0)
    for number in range(N_SHARDS):
        n = N_LONG if f"pool-{number}" == LONG else N_IMAGES
        rows = {
            "image_id": [f"{number}-{i}" for i in range(n)],
            "image": [png(rng, LABELS[i % 3], dark=False) for i in range(n)],
            "weak_label": [LABELS[i % 3] for i in range(n)],
        }
        pq.write_table(pa.table(rows), tmp_path / f"pool-{number}.parquet", row_group_size=50)
    return tmp_path


def config_for(pool: Path, kind: Kind | Literal["thread"]) -> EmbedConfig:
    return EmbedConfig(
        store=str(pool / kind),
        pool=PoolConfig(name="tiny", images=str(pool / "pool-*.parquet")),
        encoder=EncoderConfig(model="test_resnet", weights="random", input_size=32),
        runner=RunnerConfig(kind=kind, max_workers=2),
    )


def published(config: EmbedConfig) -> dict[str, bytes]:
    store = Store(config.store)
    keys = [key for part in ("embeddings", "rejects") for key in store.keys_under(part)]
    return {key.rpartition("/")[2]: store.read_bytes(key) for key in keys}


def readers_killed(path: Path, at_most: int | None = None) -> AbstractContextManager[set[int]]:
    """Kill every process that opens a file; gives the ids of those that were."""
    return holders_killed(lambda name: name == str(path), at_most)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_worker_held_is_embedded_all_the_same(pool: Path, kind: Kind):
    config = config_for(pool, kind)
    with readers_killed(pool / f"{LONG}.parquet", at_most=1) as killed:
        embedded = embed_pool(config)
    assert len(killed) == 1
    assert embedded.n_embedded == N_LONG + (N_SHARDS - 1) * N_IMAGES
    calm = config_for(pool, "thread")
    embed_pool(calm)
    assert published(config) == published(calm)
    if kind == "process":  # Ray and Dask try it elsewhere by themselves
        assert 1 <= embedded.n_lost_with_worker <= 2
        assert "after a worker of theirs was killed" in summary(embedded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_that_kills_every_worker_is_noted_with_its_cause(pool: Path, kind: Kind):
    config = config_for(pool, kind)
    with readers_killed(pool / f"{LONG}.parquet") as killed, pytest.raises(EmbeddingFailed) as told:
        embed_pool(config)
    assert len(killed) >= 2  # once among others, once alone
    (failure,) = told.value.failures
    assert failure.startswith(f"{LONG}: WorkerKilled: its worker was killed; out of memory?")

    store = Store(config.store)
    encoder_id = load_encoder(config.encoder).encoder_id
    status = pool_status(store, "tiny", encoder_id)
    assert (status.n_done, status.n_failed, status.n_missing) == (N_SHARDS - 1, 1, 0)
    (noted,) = noted_failures(store, "tiny", encoder_id)
    assert noted.shard == LONG
    assert "out of memory?" in noted.reason

    again = embed_pool(config)  # the cause is gone
    assert again.n_reused_shards == N_SHARDS - 1
    assert pool_status(store, "tiny", encoder_id).n_failed == 0
