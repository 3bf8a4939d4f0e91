"""Embedding while processes and servers die and answers fail: the same tables in the end.

All on a real S3 server. What a run reads, embeds and writes is told by the run itself; what was
published is read from the server.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from prefect.server.api.server import SubprocessASGIServer

from dcd.config import EmbedConfig, EncoderConfig, PoolConfig, RunnerConfig
from dcd.errors import EmbeddingFailed
from dcd.store import Store
from flows.embed_pool import embed_pool
from tests.case import LABELS, png
from tests.dcd.sources.hostile import write_tar
from tests.embed_child import STEPS_A_SHARD, Child
from tests.faulty_proxy import FaultyProxy, Request, now_and_then
from tests.s3_server import SwiftServer

pytestmark = [pytest.mark.slow, pytest.mark.s3, pytest.mark.timeout(1200)]

N_SHARDS = 40
N_IMAGES = 6  # of a shard; every fifth shard has a broken one too
N_KILLS, N_FLOW_KILLS = 20, 4
N_SERVER_KILLS = 3
AWAY_S = 30


@pytest.fixture(scope="module")
def prefect_api(prefect_home: str) -> str:
    server = SubprocessASGIServer()
    server.start(timeout=180)
    return server.api_url


@pytest.fixture
def images(swift_url: str, tmp_path: Path) -> str:
    """40 small tars on the server."""
    store = Store(f"{swift_url}/images")
    for number in range(N_SHARDS):
        rng = np.random.default_rng(number)
        members = [(f"{i}.png", png(rng, LABELS[i % 3], dark=False)) for i in range(N_IMAGES)]
        members += [(f"{i}.cls", LABELS[i % 3].encode()) for i in range(N_IMAGES)]
        if number % 5 == 0:
            members.append(("broken.jpg", b"<html>404</html>"))
        tar = write_tar(tmp_path / f"shard-{number:03d}.tar", sorted(members))
        store.write_bytes(tar.name, tar.read_bytes())
    return f"{store.url}/*.tar"


@pytest.fixture
def calm(swift_url: str, images: str) -> dict[str, bytes]:
    """What an undisturbed run publishes."""
    config = config_for(f"{swift_url}/calm", images)
    child = Child(config)
    steps = list(child.steps())
    assert child.join() == 0
    assert len(steps) == STEPS_A_SHARD * N_SHARDS
    tables = published(config)
    assert len(tables) == 2 * N_SHARDS
    return tables


def config_for(store: str, images: str) -> EmbedConfig:
    return EmbedConfig(
        store=store,
        pool=PoolConfig(name="tiny", images=images),
        encoder=EncoderConfig(model="test_resnet", weights="random", input_size=32),
        runner=RunnerConfig(max_workers=2),
    )


def published(config: EmbedConfig) -> dict[str, bytes]:
    """Every published object by key, byte for byte."""
    store = Store(config.store)
    keys = [key for part in ("embeddings", "rejects") for key in store.keys_under(part)]
    return {key: store.read_bytes(key) for key in keys}


def done(config: EmbedConfig) -> set[str]:
    """The shards whose embeddings are on the server."""
    keys = Store(config.store).keys_under("embeddings")
    return {key.rpartition("/")[2].removesuffix(".parquet") for key in keys}


def begun(steps: Sequence[tuple[str, str]]) -> list[str]:
    return [shard for step, shard in steps if step == "embed"]


def test_killed_at_20_random_moments(
    swift_url: str, images: str, calm: dict[str, bytes], prefect_api: str
):
    config = config_for(f"{swift_url}/killed", images)
    rng = random.Random(20)
    real_flow = set(rng.sample(range(N_KILLS), N_FLOW_KILLS))
    before: set[str] = set()
    lost = 0
    for life in range(N_KILLS):
        child = Child(config, prefect_api if life in real_flow else None)
        told = child.steps()
        steps = list(islice(told, rng.randint(1, 16)))  # two shards at once, six steps each
        time.sleep(rng.uniform(0, 0.02))
        child.kill()
        steps += told
        assert not before & set(begun(steps)), "embedded again after it was published"
        after = done(config)
        assert {shard for step, shard in steps if step == "published"} <= after
        lost += len(set(begun(steps)) - after)
        before = after
    assert lost > 0
    assert 0 < len(before) < N_SHARDS
    last = Child(config, prefect_api)
    steps = list(last.steps())
    assert last.join() == 0
    assert sorted(begun(steps)) == sorted(done(config) - before)
    assert published(config) == calm


def test_the_server_killed_and_started_again_in_the_middle(
    swift_server: SwiftServer,
    swift_url: str,
    images: str,
    calm: dict[str, bytes],
    prefect_api: str,
):
    config = config_for(f"{swift_url}/outages", images)
    rng = random.Random(3)
    moments = sorted(rng.sample(range(10, STEPS_A_SHARD * N_SHARDS - 40), N_SERVER_KILLS))
    outages = {moment: rng.uniform(0.5, 2) for moment in moments}
    outlive(outages, swift_server, Child(config, prefect_api))
    assert published(config) == calm


def test_the_server_away_for_half_a_minute(
    swift_server: SwiftServer,
    swift_url: str,
    images: str,
    calm: dict[str, bytes],
    prefect_api: str,
):
    config = config_for(f"{swift_url}/away", images)
    outlive({50: AWAY_S}, swift_server, Child(config, prefect_api))
    assert published(config) == calm


def outlive(outages: Mapping[int, float], server: SwiftServer, child: Child) -> None:
    """See a run to its end, with the server killed after some steps for some seconds.

    No shard may be embedded again once it is published.
    """
    finished: set[str] = set()
    for n_steps, (step, shard) in enumerate(child.steps(), 1):
        assert step != "embed" or shard not in finished, f"{shard} embedded again"
        if step == "published":
            finished.add(shard)
        if away := outages.get(n_steps):
            server.kill()
            time.sleep(away)
            server.start()
    assert child.join() == 0
    assert len(finished) == N_SHARDS


@pytest.fixture
def proxy(
    swift_server: SwiftServer, images: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """A proxy in front of the server, through which all further requests go."""
    proxy = FaultyProxy(swift_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    yield proxy
    proxy.close()


def test_wrong_slow_and_cut_answers(
    swift_url: str, images: str, calm: dict[str, bytes], proxy: FaultyProxy, prefect_home: str
):
    config = config_for(f"{swift_url}/faults", images)
    proxy.decide = now_and_then(0.25, ("500", "503", "slow", "cut"), seed=1)
    embedded = embed_pool(config)
    faults = proxy.faults()
    assert min(faults[kind] for kind in ("500", "503", "slow", "cut")) >= 3
    assert embedded.n_embedded == N_SHARDS * N_IMAGES
    assert embedded.n_rejected == N_SHARDS // 5
    proxy.decide = lambda _: None
    assert published(config) == calm


def test_what_is_forbidden_is_not_tried_again(
    swift_url: str, images: str, calm: dict[str, bytes], proxy: FaultyProxy, prefect_home: str
):
    config = config_for(f"{swift_url}/forbidden", images)

    def forbid(request: Request):
        unlucky = request.method == "PUT" and "/embeddings/" in request.path
        return "403" if unlucky and "shard-007" in request.path else None

    proxy.decide = forbid
    with pytest.raises(EmbeddingFailed) as caught:
        embed_pool(config)
    assert [line.partition(": ")[0] for line in caught.value.failures] == ["shard-007"]
    assert "StoreRefused" in caught.value.failures[0]
    assert "the right to write is missing" in caught.value.failures[0]
    assert len(proxy.paths("PUT", "embeddings/tiny/")) == N_SHARDS  # the forbidden one once
    assert len(done(config)) == N_SHARDS - 1

    proxy.decide, proxy.seen = lambda _: None, []
    embed_pool(config)
    assert len(proxy.paths("PUT", "embeddings/tiny/")) == 1
    assert {path.rpartition("/")[2] for path in proxy.paths("GET", "images/shard-")} == {
        "shard-007.tar"
    }
    assert published(config) == calm
