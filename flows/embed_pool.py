"""Run `embed-pool`: every image of a source becomes a vector, shard by shard, exactly once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from dcd.config import EmbedConfig, EncoderConfig
from dcd.embeddings.batches import Batch, batched, max_tasks
from dcd.embeddings.embed import ShardOutcome, respelled_words
from dcd.errors import EmbeddingFailed
from dcd.progress import live
from dcd.sources.records import Shard
from dcd.sources.source import Source, source_of
from dcd.store.store_format import open_for_writing
from flows.deployment.attend import attend
from flows.runners import Ended, WorkerKilled, ended
from tasks import embedding
from tasks.stopping import stoppable


@dataclass(frozen=True)
class EmbeddedSource:
    """An embedded image source; n_images = n_embedded + n_rejected.

    Of them n_new_images were read and embedded now, n_bytes of encoded images. cleaned: which
    labels of those are written otherwise in the source, in words. n_lost_with_worker: shards whose
    worker was killed, tried once more.
    """

    source: Source
    encoder_id: str
    shards: tuple[Shard, ...]
    n_images: int
    n_embedded: int
    n_rejected: int
    n_reused_shards: int
    shards_with_rejects: tuple[str, ...]
    seconds: float
    n_new_images: int
    n_bytes: int
    cleaned: str = ""
    n_lost_with_worker: int = 0


@dataclass(frozen=True)
class EmbedJob:
    """What all tasks of one embedding share; versions: of what is there, by object key."""

    config: EmbedConfig
    source: Source
    encoder_id: str
    versions: Mapping[str, str]

    def submit(self, runner: TaskRunner[Any], batch: Sequence[Shard]) -> PrefectFuture[Any]:
        """Begin to embed a batch."""
        store = self.config.store
        task = embedding.kept_embed_shards(
            store, self.source, batch, self.encoder_id, self.versions
        )
        parameters = {
            "store": store,
            "source": self.source,
            "shards": batch,
            "config": self.config.encoder,
            "encoder_id": self.encoder_id,
        }
        return runner.submit(task, parameters)

    def outcome_of(self, end: Ended[Sequence[Shard]]) -> Batch:
        """Return what became of a batch, and tell its progress where that was not heard."""
        outcome = end.result
        if not isinstance(outcome, Batch):
            outcome = embedding.salvage(
                self.config.store, self.source, end.work, self.encoder_id, end.result
            )
        # What other processes embed is not heard here; a kept result makes no sound at all.
        if self.config.runner.kind != "thread" or end.is_kept:
            live.advanced(self.source.id, sum(d.stats.n_images for d in outcome.done))
        return outcome


def with_graph(store: str, pool: Source, encoder: EncoderConfig) -> EncoderConfig:
    """Give an encoder in int8 its graph, made of the pool's images; others need none."""
    if encoder.precision != "int8":
        return encoder
    return embedding.calibrated(store, pool, encoder)


@flow(name="embed-pool", flow_run_name="embed {config.pool.title}")
def embed_pool(config: EmbedConfig) -> EmbeddedSource:
    """Embed what is not embedded yet.

    Raises EmbeddingFailed naming every shard that failed, StoreError for a newer dcd's store.
    """
    attend()
    open_for_writing(config.store)
    start = time.monotonic()
    source = source_of(config.pool)
    encoder = with_graph(config.store, source, config.encoder)
    config = config.model_copy(update={"encoder": encoder})
    encoder_id = embedding.encoder_id(config.encoder)
    shards = embedding.list_shards(config.store, source)
    versions = embedding.versions(config.store, source, encoder_id)
    counts = [shard.n_images for shard in shards]
    total = None if None in counts else sum(n for n in counts if n is not None)
    live.started(source.id, total, "images")

    job = EmbedJob(config, source, encoder_id, versions)
    with stoppable():
        outcomes, n_lost = embed_batches(job, batched(shards, max_tasks(config.runner.max_workers)))
    place = {shard.name: number for number, shard in enumerate(shards)}
    done = [shard for outcome in outcomes for shard in outcome.done]
    done.sort(key=lambda one: place[one.stats.shard])
    failed = [shard for outcome in outcomes for shard in outcome.failed]
    failed.sort(key=lambda one: place[one.shard])
    embedding.note_failures(config.store, source, encoder_id, failed)
    if failed:
        raise EmbeddingFailed(source.id, [f"{f.shard}: {f.reason}" for f in failed], len(shards))

    seconds = time.monotonic() - start
    result = _embedded_source(source, encoder_id, shards, done, n_lost, seconds)
    live.finished(source.id, summary(result))
    return result


def embed_batches(job: EmbedJob, batches: Sequence[Sequence[Shard]]) -> tuple[list[Batch], int]:
    """Embed all batches; gives what became of them, and how many shards lost their worker.

    Of a worker that was killed the shards are tried once more, each alone.
    """
    runner = job.config.runner
    outcomes: list[Batch] = []
    alone: list[Sequence[Shard]] = []
    for end in ended(runner, batches, job.submit):
        outcome = job.outcome_of(end)
        if isinstance(end.result, WorkerKilled):
            lost = {one.shard for one in outcome.failed}
            alone += [(shard,) for shard in end.work if shard.name in lost]
            outcome = Batch(outcome.done, ())
        outcomes.append(outcome)
    if alone:
        get_run_logger().warning(
            "%s: %s shards were lost with a killed worker, each is tried once more alone: %s",
            job.source.id,
            len(alone),
            ", ".join(shard.name for (shard,) in alone),
        )
    for end in ended(
        runner.model_copy(update={"max_workers": 1}), alone, job.submit, one_at_a_time=True
    ):
        outcomes.append(job.outcome_of(end))
    return outcomes, len(alone)


def _embedded_source(
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    done: Sequence[ShardOutcome],
    n_lost_with_worker: int,
    seconds: float,
) -> EmbeddedSource:
    fresh = [outcome for outcome in done if not outcome.reused]
    return EmbeddedSource(
        source,
        encoder_id,
        tuple(shards),
        sum(d.stats.n_images for d in done),
        sum(d.stats.n_embedded for d in done),
        sum(d.stats.n_rejected for d in done),
        len(done) - len(fresh),
        tuple(d.stats.shard for d in done if d.stats.n_rejected),
        seconds,
        sum(d.stats.n_images for d in fresh),
        sum(d.n_bytes for d in done),
        respelled_words(
            sum(d.n_respelled for d in done), (way for d in done for way in d.respelled)
        ),
        n_lost_with_worker,
    )


def summary(embedded: EmbeddedSource) -> str:
    """Say what the stage made, in a few words."""
    fresh = len(embedded.shards) - embedded.n_reused_shards
    n_lost = embedded.n_lost_with_worker
    return (
        f"{embedded.n_embedded:,} images embedded, {embedded.n_rejected:,} rejected; "
        f"{fresh} of {len(embedded.shards)} shards new"
        + (f", {n_lost} of them after a worker of theirs was killed" if n_lost else "")
    )
