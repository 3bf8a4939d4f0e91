"""Cluster an embedded pool by label: in this process, or in shares on the workers of a runner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from dcd.config import IndexConfig, PoolConfig, RunnerConfig
from dcd.errors import IndexingFailed
from dcd.index.info import IndexInfo
from dcd.index.shares.build import SharedBuild
from dcd.index.shares.plan import Share, workers_of
from dcd.progress import live
from flows.embed_pool import EmbeddedSource
from flows.runners import Ended, WorkerKilled, ended
from tasks import index_shares
from tasks.stages import cluster_pool
from tasks.stopping import stoppable

STAGE = "cluster by label"


def clustered(
    store: str,
    embedded: EmbeddedSource,
    pool: PoolConfig,
    config: IndexConfig,
    runner: RunnerConfig,
    compact: bool = False,
) -> IndexInfo:
    """Build or find the index of a pool, and tell of it as a stage.

    Raises IndexingFailed naming the shares whose workers were killed, once among others and once
    alone.
    """
    with live.stage(STAGE) as stage:
        where = (store, embedded.source, embedded.encoder_id, embedded.shards, pool, config)
        workers = workers_of(runner, config)
        if workers.n == 1:
            index = cluster_pool(*where, compact)
        else:
            begun = index_shares.begin(*where, workers, compact)
            index = begun if isinstance(begun, IndexInfo) else _in_shares(store, begun, runner)
        stage.outcome = f"{index.n_rows:,} rows"
    return index


@dataclass(frozen=True)
class _Job:
    """What all tasks of one index share."""

    store: str
    begun: SharedBuild

    def submit(self, runner: TaskRunner[Any], share: Share) -> PrefectFuture[Any]:
        parameters = {"store": self.store, "begun": self.begun, "share": share}
        return runner.submit(index_shares.write_share, parameters)


def _in_shares(store: str, begun: SharedBuild, runner: RunnerConfig) -> IndexInfo:
    job = _Job(store, begun)
    with stoppable():
        failed, lost = _written(ended(runner, begun.shares, job.submit), len(begun.shares))
        if lost:
            get_run_logger().warning(
                "%s of %s shares of the index were lost with a killed worker, each is tried once "
                "more alone",
                len(lost),
                len(begun.shares),
            )
        alone = runner.model_copy(update={"max_workers": 1})
        again, still_lost = _written(
            ended(alone, lost, job.submit, one_at_a_time=True), len(begun.shares)
        )
    for error in (*failed, *again):
        raise error
    if still_lost:
        reasons = [f"{_named(share)}: {WorkerKilled()}" for share in still_lost]
        raise IndexingFailed(begun.recipe.pool, reasons, len(begun.shares))
    return index_shares.finish(store, begun)


def _written(
    ends: Iterator[Ended[Share]], n_shares: int
) -> tuple[Sequence[Exception], Sequence[Share]]:
    """Wait for all; gives the errors of those that failed, and those whose worker was killed."""
    failed: list[Exception] = []
    lost: list[Share] = []
    for number, end in enumerate(ends, start=1):
        if isinstance(end.result, WorkerKilled):
            lost.append(end.work)
        elif isinstance(end.result, Exception):
            failed.append(end.result)
        live.noted(STAGE, f"{number} of {n_shares} shares")
    return failed, sorted(lost, key=lambda share: share.first_part)


def _named(share: Share) -> str:
    last = share.first_part + len(share.part_rows) - 1
    return (
        f"files {share.first_part} to {last}, from label {share.first[0]!r} to {share.last_label!r}"
    )
