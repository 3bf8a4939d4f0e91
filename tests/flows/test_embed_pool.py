import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import EmbedConfig, EncoderConfig, PoolConfig, RunnerConfig, load_embed_config
from dcd.embeddings.batches import batched
from dcd.errors import ConfigError, EmbeddingFailed, StoreUnavailable
from dcd.index.build import cluster_pool
from dcd.progress import live
from dcd.sources.records import Shard
from dcd.splits.label_map import read_pool_labels
from dcd.store import Store, keys
from flows.embed_pool import embed_pool
from tasks import embedding
from tests.case import LABELS, write_case


class Heard:
    """A progress listener that adds up."""

    def __init__(self):
        self.total: int | None = 0
        self.done = 0
        self.outcome = ""

    def started(self, stage: str, total: int | None, unit: str) -> None:
        self.total = total

    def advanced(self, stage: str, n: int) -> None:
        self.done += n

    def finished(self, stage: str, outcome: str) -> None:
        self.outcome = outcome


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr(live, "_listener", heard)
    return heard


def shards(n: int) -> list[Shard]:
    return [Shard(f"s{i:05d}", f"s{i}.tar", "webdataset", None, "e") for i in range(n)]


@pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 2500, 100_000])
def test_batches_hold_every_shard_once_in_order(n):
    batches = batched(shards(n), 1000)
    assert [s for batch in batches for s in batch] == shards(n)
    assert len(batches) == min(n, 1000)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
def test_what_is_transient_is_tried_again_and_counted_once(
    prefect_home: str, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    config = load_embed_config(write_case(tmp_path))
    embed_shard, tries = embedding.embed_shard, []

    def interrupted_once(store, source, shard, encoder, encoder_id, on_images):
        tries.append(shard.name)
        if shard.name == "pool-1" and tries.count("pool-1") == 1:
            on_images(5)
            raise StoreUnavailable("the store is busy")
        return embed_shard(store, source, shard, encoder, encoder_id, on_images)

    monkeypatch.setattr(embedding, "embed_shard", interrupted_once)
    embedded = embed_pool(config)
    assert sorted(tries) == ["pool-0", "pool-1", "pool-1", "pool-2"]
    assert embedded.n_embedded == heard.total == heard.done == 72
    assert "3 of 3 shards new" in heard.outcome


def test_a_bug_in_one_shard_leaves_the_others_and_is_named(
    prefect_home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = load_embed_config(write_case(tmp_path))
    embed_shard, tries = embedding.embed_shard, []

    def buggy(store, source, shard, *rest):
        tries.append(shard.name)
        if shard.name == "pool-1":
            raise ZeroDivisionError("a bug\nof two lines")
        return embed_shard(store, source, shard, *rest)

    monkeypatch.setattr(embedding, "embed_shard", buggy)
    with pytest.raises(EmbeddingFailed) as caught:
        embed_pool(config)
    assert caught.value.failures == ["pool-1: ZeroDivisionError: a bug of two lines"]
    assert sorted(tries) == ["pool-0", "pool-1", "pool-2"]  # a bug does not go away
    monkeypatch.undo()
    again = embed_pool(config)
    assert (again.n_reused_shards, again.n_embedded) == (2, 72)


def test_a_manifest_with_queries_from_config_to_classes(
    prefect_home: str, tmp_path: Path, heard: Heard
):
    write_case(tmp_path / "case")
    images = pq.read_table(tmp_path / "case/pool-0.parquet").to_pylist()
    for row in images:
        (tmp_path / f"{row['image_id']}.png").write_bytes(row["image"])
    manifest = {
        "uri": [f"{row['image_id']}.png" for row in images] + ["absent.png"],
        "image_id": [row["image_id"] for row in images] + ["gone"],
        "query": [f"a {row['weak_label']} thing" for row in images] + ["a red thing"],
    }
    pq.write_table(pa.table(manifest), tmp_path / "pool.parquet")
    label_map = {"weak_label": [f"a {label} thing" for label in LABELS], "label": LABELS}
    pq.write_table(pa.table(label_map), tmp_path / "map.parquet")
    config = EmbedConfig(
        store=str(tmp_path / "store"),
        pool=PoolConfig(
            name="listed",
            images=str(tmp_path / "pool.parquet"),
            label_column="query",
            label_map=str(tmp_path / "map.parquet"),
        ),
        encoder=EncoderConfig(model="pixels", input_size=16),
    )
    embedded = embed_pool(config)
    assert (embedded.n_embedded, embedded.n_rejected) == (24, 1)
    assert heard.done == heard.total == 25
    store = Store(config.store)
    (rejected,) = store.read_table(
        keys.rejects("listed", embedded.encoder_id, "pool-00000")
    ).to_pylist()
    assert rejected == {"image_id": "gone", "stage": "read", "reason": "no such object"}
    index = cluster_pool(store, embedded.source, embedded.encoder_id, embedded.shards, config.pool)
    assert index.label_counts.keys() == set(LABELS)
    assert (index.n_rows, index.n_unlabelled) == (24, 0)
    assert read_pool_labels(config.pool) is not None


def test_failures_are_told_though_they_cannot_be_noted(
    prefect_home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = load_embed_config(write_case(tmp_path))
    (tmp_path / "pool-1.parquet").write_bytes(b"")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "pool-1.parquet")
    write_bytes = Store.write_bytes

    def refusing(store: Store, key: str, data: bytes) -> None:
        if "failed-" in key:
            raise StoreUnavailable("the store is away")
        write_bytes(store, key, data)

    monkeypatch.setattr(Store, "write_bytes", refusing)
    with pytest.raises(EmbeddingFailed, match="pool-1: DataError"):
        embed_pool(config)


def test_the_config_of_a_run_holds_that_of_its_pool(tmp_path: Path):
    run = write_case(tmp_path)
    config = load_embed_config(run)
    assert config.pool.name == "colours"
    assert config.encoder.model == "test_resnet"
    alone = tmp_path / "alone.json"  # JSON is YAML
    alone.write_text(json.dumps(config.model_dump(mode="json")))
    assert load_embed_config(alone) == config
    alone.write_text("store: x\nrunner:\n  kind: threads\n")
    with pytest.raises(ConfigError) as caught:
        load_embed_config(alone)
    assert len(caught.value.problems) == 2  # the runner, and the missing pool


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["process", "ray", "dask"])
def test_other_runners_give_what_threads_give(
    prefect_home: str, tmp_path: Path, heard: Heard, kind, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    here = load_embed_config(write_case(tmp_path))
    embed_pool(here)
    runner = RunnerConfig(kind=kind, max_workers=2)
    there = here.model_copy(update={"store": str(tmp_path / kind), "runner": runner})
    heard.done = 0
    embedded = embed_pool(there)
    assert embedded.n_embedded == heard.done == heard.total == 72
    assert tables(there) == tables(here)
    again = embed_pool(there)
    assert again.n_reused_shards == 3


def tables(config: EmbedConfig) -> dict[str, bytes]:
    """All outputs; the kept results of tasks name the version of each, which differs."""
    store = Store(config.store)
    outputs = [key for key in store.keys_under("") if not key.startswith(f"{keys.RESULTS}/")]
    found = {key: store.read_bytes(key) for key in outputs}
    assert len(found) == 3 + 3 + 3  # embeddings, rejects; shards, failures, the store's format
    return found
