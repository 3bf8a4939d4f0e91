"""Wrap the building of an index by several workers as tasks."""

from collections.abc import Sequence

from prefect import task

from dcd.config import IndexConfig, PoolConfig
from dcd.index.info import IndexInfo
from dcd.index.shares import build
from dcd.index.shares.build import SharedBuild
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
) -> SharedBuild | IndexInfo:
    return build.begin(Store(store), source, encoder_id, shards, pool, config, workers, compact)


@task(name="index-share", task_run_name="index files from {share.first_part}", **RETRY)
def write_share(store: str, begun: SharedBuild, share: Share) -> None:
    build.write_share(Store(store), begun, share)


@task(name="finish-index", **RETRY)
def finish(store: str, begun: SharedBuild) -> IndexInfo:
    return build.finish(Store(store), begun)
