"""Wrap the building of an index by several workers as tasks."""

from collections.abc import Sequence

from prefect import task

import dcd.index.shares.runs
from dcd.config import IndexConfig, PoolConfig
from dcd.index.info import IndexInfo
from dcd.index.shares import build
from dcd.index.shares.begun import BegunIndex, Run
from dcd.index.shares.build import DividedIndex
from dcd.index.shares.plan import Share, Workers
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store
from tasks.retries import RETRY


@task(name="begin-index", **RETRY)
def begin(
    store: str,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    pool: PoolConfig,
    config: IndexConfig,
    workers: Workers,
    compact: bool = False,
) -> BegunIndex | IndexInfo:
    return build.begin(Store(store), source, encoder_id, shards, pool, config, workers, compact)


@task(name="sort-shards", task_run_name="sort from {run.shards[0].name}", **RETRY)
def write_run(store: str, begun: BegunIndex, run: Run) -> None:
    dcd.index.shares.runs.write_run(Store(store), begun, run)


@task(name="divide-index", **RETRY)
def divide(store: str, begun: BegunIndex, n_workers: int, max_memory_bytes: int) -> DividedIndex:
    return build.divide(Store(store), begun, n_workers, max_memory_bytes)


@task(name="write-files", task_run_name="write files from {share.first_part}", **RETRY)
def write_share(store: str, divided: DividedIndex, share: Share) -> None:
    build.write_share(Store(store), divided, share)


@task(name="finish-index", **RETRY)
def finish(store: str, divided: DividedIndex, pool: PoolConfig) -> IndexInfo:
    return build.finish(Store(store), divided, pool)
