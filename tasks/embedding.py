"""Wrap the embedding stage as tasks."""

from collections.abc import Mapping, Sequence

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from dcd.config import EncoderConfig
from dcd.embeddings import calibrate, status
from dcd.embeddings.batches import Batch
from dcd.embeddings.embed import ShardOutcome, embed_shard, published
from dcd.embeddings.status import FailedShard
from dcd.encoders.encoder import load_encoder
from dcd.errors import DCDError, StoreError
from dcd.progress import live
from dcd.sources.records import Shard
from dcd.sources.source import Source, list_source
from dcd.store import Store, keys
from dcd.store.errors import is_transient
from tasks import reuse
from tasks.result_keys import ResultKey, embed_key
from tasks.retries import RETRIES, RETRY
from tasks.stopping import stop_if_told


@task(name="calibrate-encoder", **RETRY)
def calibrated(store: str, pool: Source, config: EncoderConfig) -> EncoderConfig:
    return calibrate.calibrated(Store(store), pool, config)


@task(name="describe-encoder", cache_policy=NO_CACHE)
def encoder_id(config: EncoderConfig) -> str:
    return load_encoder(config).encoder_id


@task(name="list-shards", **RETRY)
def list_shards(store: str, source: Source) -> list[Shard]:
    return list_source(Store(store), source)


@task(name="embed-shards", task_run_name="embed {source.id} {shards[0].name}", **RETRY)
def embed_shards(
    store: str, source: Source, shards: Sequence[Shard], config: EncoderConfig, encoder_id: str
) -> Batch:
    """Embed a batch of shards. One that fails for good does not stop the others.

    A transient failure is raised at the end, so that the retry redoes only what is missing; after
    the last retry it counts as failed.
    """
    done, failed = [], []
    interrupted: Exception | None = None
    attempt = _attempt()
    for shard in shards:
        told = 0

        def tell(n_images: int) -> None:
            nonlocal told
            told += n_images
            live.advanced(source.id, n_images)
            stop_if_told()

        try:
            outcome = embed_shard(Store(store), source, shard, config, encoder_id, tell)
        except Exception as error:
            live.advanced(source.id, -told)
            if not isinstance(error, DCDError | OSError):
                get_run_logger().exception("shard %s", shard.name)
            if is_transient(error) and attempt <= RETRIES:
                interrupted = error
            else:
                failed.append(FailedShard(shard.name, reason_of(error)))
        else:
            done.append(outcome)
            if outcome.reused and attempt == 1:
                live.advanced(source.id, outcome.stats.n_images)
    if interrupted is not None:
        raise interrupted
    return Batch(tuple(done), tuple(failed))


@task(name="salvage-shards", **RETRY)
def salvage(
    store: str, source: Source, shards: Sequence[Shard], encoder_id: str, error: BaseException
) -> Batch:
    """Return what a batch had published before its task broke; the rest failed with `error`."""
    done, failed = [], []
    for shard in shards:
        try:
            stats = published(Store(store), source.id, encoder_id, shard)
        except DCDError as unknown:
            stats, error = None, unknown
        if stats is not None:
            done.append(ShardOutcome(stats, reused=False))
        else:
            failed.append(FailedShard(shard.name, reason_of(error)))
    return Batch(tuple(done), tuple(failed))


def reason_of(error: BaseException) -> str:
    """Tell an error in one line: its kind and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _attempt() -> int:
    """Which try of its task this is, from 1."""
    context = TaskRunContext.get()
    return 1 if context is None else context.task_run.run_count


@task(name="look-for-embeddings", **RETRY)
def versions(store: str, source: Source, encoder_id: str) -> dict[str, str]:
    """List what tells the present embeddings of a source from others, by object key."""
    return Store(store).versions_under(keys.embeddings_of(source.id, encoder_id))


def kept_embed_shards(
    store: str,
    source: Source,
    shards: Sequence[Shard],
    encoder_id: str,
    versions: Mapping[str, str],
) -> Task[..., Batch]:
    """Return `embed_shards`, skipped where the same batch has been seen to be embedded."""
    return reuse.kept(embed_shards, store, result_key(source, shards, encoder_id, versions))


def result_key(
    source: Source, shards: Sequence[Shard], encoder_id: str, versions: Mapping[str, str]
) -> ResultKey:
    """Return the key under which the result of `embed_shards` is kept."""
    return embed_key(source.id, encoder_id, shards, versions)


@task(name="note-failures", **RETRY)
def note_failures(
    store: str, source: Source, encoder_id: str, failed: Sequence[FailedShard]
) -> None:
    """Note the failed shards in the store; a store that is away must not hide their names."""
    try:
        status.note_failures(Store(store), source.id, encoder_id, failed)
    except StoreError as error:
        get_run_logger().warning("the failed shards could not be noted: %s", error)
