"""Cluster an embedded pool by label: in this process, or in shares on the workers of a runner."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from prefect import get_run_logger
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from dcd.config import IndexConfig, PoolConfig, RunnerConfig
from dcd.errors import IndexingFailed
from dcd.index.info import IndexInfo
from dcd.index.shares.begun import BegunIndex, Run
from dcd.index.shares.plan import Share, workers_of
from dcd.progress import live
from flows.embed_pool import EmbeddedSource
from flows.runners import Ended, Submit, WorkerKilled, ended
from tasks import index_shares
from tasks.stages import cluster_pool
from tasks.stopping import stoppable

STAGE = "cluster by label"

W = TypeVar("W", Run, Share)


def clustered(
    store: str,
    embedded: EmbeddedSource,
    pool: PoolConfig,
    config: IndexConfig,
    runner: RunnerConfig,
    compact: bool = False,
) -> IndexInfo:
    """Build or find the index of a pool, and tell of it as a stage.

    Raises IndexingFailed naming the work whose workers were killed, once among others and once
    alone.
    """
    with live.stage(STAGE) as stage:
        where = (store, embedded.source, embedded.encoder_id, embedded.shards, pool, config)
        workers = workers_of(runner, config)
        if workers.n == 1:
            index = cluster_pool(*where, compact)
        else:
            begun = index_shares.begin(*where, workers, compact)
            if isinstance(begun, IndexInfo):
                index = begun
            else:
                index = _by_workers(begun, store, pool, config, runner)
        stage.outcome = f"{index.n_rows:,} rows"
    return index


def _by_workers(
    begun: BegunIndex, store: str, pool: PoolConfig, config: IndexConfig, runner: RunnerConfig
) -> IndexInfo:
    n_workers = workers_of(runner, config).n

    def sort(on: TaskRunner[Any], run: Run) -> PrefectFuture[Any]:
        parameters = {"store": store, "begun": begun, "run": run}
        return on.submit(index_shares.write_run, parameters)

    def write(on: TaskRunner[Any], share: Share) -> PrefectFuture[Any]:
        parameters = {"store": store, "divided": divided, "share": share}
        return on.submit(index_shares.write_share, parameters)

    _do_all(runner, begun.runs, sort, _run_in_words)
    divided = index_shares.divide(store, begun, n_workers, config.max_memory_bytes)
    _do_all(runner, divided.shares, write, _share_in_words)
    return index_shares.finish(store, divided, pool)


def _do_all(
    runner: RunnerConfig, works: Sequence[W], submit: Submit[W], in_words: Callable[[W], str]
) -> None:
    """Do all of some work; what a killed worker held is tried once more, each alone."""
    with stoppable():
        failed, lost = _ends(ended(runner, works, submit), len(works))
        if lost:
            get_run_logger().warning(
                "index: a worker was killed, what it held is tried once more alone: %s",
                "; ".join(map(in_words, lost)),
            )
        alone = runner.model_copy(update={"max_workers": 1})
        failed_again, lost = _ends(ended(alone, lost, submit, one_at_a_time=True), len(works))
    for error in (*failed, *failed_again):
        raise error
    if lost:
        raise IndexingFailed([f"{in_words(work)}: {WorkerKilled()}" for work in lost], len(works))


def _ends(ends: Iterator[Ended[W]], n: int) -> tuple[list[Exception], list[W]]:
    """Wait for all; gives the errors of what failed, and that whose worker was killed."""
    failed: list[Exception] = []
    lost: list[W] = []
    for number, end in enumerate(ends, start=1):
        if isinstance(end.result, WorkerKilled):
            lost.append(end.work)
        elif isinstance(end.result, Exception):
            failed.append(end.result)
        live.noted(STAGE, f"{number} of {n} done")
    return failed, lost


def _run_in_words(run: Run) -> str:
    return f"sorting the shards {run.shards[0].name} to {run.shards[-1].name}"


def _share_in_words(share: Share) -> str:
    return f"writing the files from number {share.first_part} on, label {share.first.label!r}"
