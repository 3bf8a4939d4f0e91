"""Run `embed-pool`: every image of a source becomes a vector, shard by shard, exactly once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import flow

from dcd.config import EmbedConfig
from dcd.embeddings.batches import Batch, batched, max_tasks
from dcd.embeddings.embed import ShardOutcome, respelled_words
from dcd.errors import EmbeddingFailed
from dcd.sources.records import Shard
from dcd.sources.source import Source, source_of
from flows.deployment.attend import attend
from flows.runners import started_runner
from tasks import embedding, progress, reuse


@dataclass(frozen=True)
class EmbeddedSource:
    """An embedded image source; n_images = n_embedded + n_rejected.

    Of them n_new_images were read and embedded now, n_bytes of encoded images. cleaned: which
    labels of those are written otherwise in the source, in words.
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


@flow(name="embed-pool", flow_run_name="embed {config.pool.title}")
def embed_pool(config: EmbedConfig) -> EmbeddedSource:
    """Embed what is not embedded yet. Raises EmbeddingFailed naming every shard that failed."""
    attend()
    start = time.monotonic()
    source = source_of(config.pool)
    encoder_id = embedding.encoder_id(config.encoder)
    shards = embedding.list_shards(config.store, source)
    versions = embedding.versions(config.store, source, encoder_id)
    counts = [shard.n_images for shard in shards]
    total = None if None in counts else sum(n for n in counts if n is not None)
    progress.started(source.id, total, "images")

    batches = batched(shards, max_tasks(config.runner.max_workers))
    outcomes: list[Batch] = []
    with started_runner(config.runner) as runner:
        futures = [
            runner.submit(
                embedding.kept_embed_shards(config.store, source, batch, encoder_id, versions),
                {
                    "store": config.store,
                    "source": source,
                    "shards": batch,
                    "config": config.encoder,
                    "encoder_id": encoder_id,
                },
            )
            for batch in batches
        ]
        for batch, future in zip(batches, futures, strict=True):
            future.wait()
            outcome = reuse.result_of(future, raise_on_failure=False)
            if not isinstance(outcome, Batch):
                outcome = embedding.salvage(config.store, source, batch, encoder_id, outcome)
            outcomes.append(outcome)
            # What other processes embed is not heard here; a kept result makes no sound at all.
            if config.runner.kind != "thread" or reuse.is_cached(future):
                progress.advanced(source.id, sum(d.stats.n_images for d in outcome.done))

    done = [shard for outcome in outcomes for shard in outcome.done]
    failed = [shard for outcome in outcomes for shard in outcome.failed]
    embedding.note_failures(config.store, source, encoder_id, failed)
    if failed:
        raise EmbeddingFailed(source.id, [f"{f.shard}: {f.reason}" for f in failed], len(shards))

    seconds = time.monotonic() - start
    result = _embedded_source(source, encoder_id, shards, done, seconds)
    progress.finished(source.id, summary(result))
    return result


def _embedded_source(
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    done: Sequence[ShardOutcome],
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
    )


def summary(embedded: EmbeddedSource) -> str:
    """Say what the stage made, in a few words."""
    fresh = len(embedded.shards) - embedded.n_reused_shards
    return (
        f"{embedded.n_embedded:,} images embedded, {embedded.n_rejected:,} rejected; "
        f"{fresh} of {len(embedded.shards)} shards new"
    )
