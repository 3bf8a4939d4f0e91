"""Tasks of the embedding stage."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from dcd import pool_status, stages
from dcd.config import EncoderConfig
from dcd.datasets import Source
from dcd.encoders import load_encoder
from dcd.errors import DCDError
from dcd.pool import Shard
from dcd.pool_status import FailedShard
from dcd.stages import ShardOutcome
from dcd.store import Store
from dcd.store_errors import is_transient
from tasks import progress
from tasks.retries import RETRIES, RETRY_DELAYS_S, RETRY_JITTER_FACTOR, transient


@dataclass(frozen=True)
class Batch:
    """What became of a batch of shards."""

    done: tuple[ShardOutcome, ...]
    failed: tuple[FailedShard, ...]


@task(name="describe-encoder", cache_policy=NO_CACHE)
def encoder_id(config: EncoderConfig) -> str:
    return load_encoder(config).encoder_id


@task(
    name="list-shards",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_jitter_factor=RETRY_JITTER_FACTOR,
    retry_condition_fn=transient,
)
def list_shards(store: str, source: Source) -> list[Shard]:
    return stages.list_source(Store(store), source)


@task(
    name="embed-shards",
    task_run_name="embed {source.id} {shards[0].name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_jitter_factor=RETRY_JITTER_FACTOR,
    retry_condition_fn=transient,
)
def embed_shards(
    store: str, source: Source, shards: Sequence[Shard], config: EncoderConfig, encoder_id: str
) -> Batch:
    """Embed a batch of shards. One that fails for good does not stop the others.

    A transient failure is raised at the end, so that the retry redoes only what is missing.
    """
    done, failed = [], []
    interrupted: Exception | None = None
    for shard in shards:
        try:
            outcome = stages.embed_shard(
                Store(store),
                source,
                shard,
                config,
                encoder_id,
                lambda n: progress.advanced(source.id, n),
            )
        except (DCDError, OSError) as error:
            if is_transient(error):
                interrupted = error
            else:
                failed.append(FailedShard(shard.name, f"{type(error).__name__}: {error}"))
        else:
            done.append(outcome)
    if interrupted is not None:
        raise interrupted
    return Batch(tuple(done), tuple(failed))


@task(name="note-failures", cache_policy=NO_CACHE)
def note_failures(
    store: str, source: Source, encoder_id: str, failed: Sequence[FailedShard]
) -> None:
    pool_status.note_failures(Store(store), source.id, encoder_id, failed)
