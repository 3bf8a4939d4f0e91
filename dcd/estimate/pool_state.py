"""Look up what an estimate needs: what of a pool is done, its index, which labels fail.

Reads the pool's sizes and the store, writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from dcd.config import DataConfig, IndexConfig, RunConfig
from dcd.embeddings.embed import CODE_FORMAT, ShardStats, published
from dcd.embeddings.read import identity_of
from dcd.estimate.parquet_cost import ReadCost, reading_cost
from dcd.index.plan import IndexPlan, Sources, plan_index, read_sources, sources_of
from dcd.index.read import read_directory
from dcd.sources.listing import list_shards
from dcd.sources.mds.images import shard_file
from dcd.sources.mds.samples import reading_requests
from dcd.sources.objects import is_local, stat_object
from dcd.sources.records import ListedImage, Shard
from dcd.sources.shards import list_images
from dcd.sources.source import Source, source_of
from dcd.splits.label_table import read_labels
from dcd.store import Store, keys
from dcd.store.filesystems import locate
from dcd.store.requests import REQUESTS_AT_ONCE


@dataclass(frozen=True)
class PlannedShard:
    """A shard of the pool. done: its counts where it is embedded.

    is_there: whether anything lies where its embeddings go. is_looked_at: whether embedding asks
    for it, which a kept result saves. archive_bytes: of a tar. reading: of a Parquet file or a
    shard of MDS that is left.
    """

    shard: Shard
    done: ShardStats | None = None
    is_there: bool = False
    is_looked_at: bool = True
    archive_bytes: int | None = None
    reading: ReadCost | None = None


@dataclass(frozen=True)
class PlannedIndex:
    """sources: what the index will be made of. directory: of `plan.base`, where there is one.

    n_shards_there: how many of its shards `plan.base` holds.
    """

    plan: IndexPlan
    sources: Sources
    directory: pa.Table | None
    n_shards_there: int


def plan_shards(
    store: Store,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    versions: Mapping[str, str],
    kept: Collection[str] = (),
) -> list[PlannedShard]:
    """Look at every shard of a source: is it done, and what would it take?

    versions: what lies under the embeddings' keys. kept: shards whose result is kept.
    """

    def look(shard: Shard) -> PlannedShard:
        is_there = keys.embeddings(source.id, encoder_id, shard.name) in versions
        done = published(store, source.id, encoder_id, shard) if is_there else None
        is_tar = shard.format == "webdataset"
        return PlannedShard(
            shard,
            done,
            is_there,
            shard.name not in kept,
            stat_object(locate(shard.uri)).n_bytes if is_tar else None,
            _reading(shard, source.data) if done is None else None,
        )

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        return list(requests.map(look, shards))


def plan_pool_index(
    store: Store,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    n_images: int,
    labels: pa.Table | None,
    config: IndexConfig,
    compact: bool,
) -> PlannedIndex:
    """Plan the index of a pool as it will be once all its shards are embedded.

    n_images: that will be embedded in all. labels: distinct ones that replace the weak ones.
    """
    identities = sorted((one.name, identity_of(CODE_FORMAT, one.etag)) for one in shards)
    sources = sources_of(source.id, encoder_id, identities, labels, config)
    plan = plan_index(store, source.id, encoder_id, sources, n_images, compact)
    if plan.base is None:
        return PlannedIndex(plan, sources, None, 0)
    there = read_sources(store, plan.base.prefix).shards
    return PlannedIndex(plan, sources, read_directory(store, plan.base), len(there))


def failing_labels(config: RunConfig) -> list[frozenset[str] | None]:
    """Read the labels of the error sample at every seed; None where only its images would tell.

    Failures that are registered in the store are not looked at.
    """
    found: list[frozenset[str] | None] = []
    for seed in config.seeds:
        data = config.dataset("error_sample", seed)
        found.append(None if data is None else _labels_of(data))
    return found


def _reading(shard: Shard, data: DataConfig) -> ReadCost | None:
    """What reading a shard fetches, where its own footer or index tells."""
    match shard.format:
        case "parquet":
            return reading_cost(shard.uri, data)
        case "mds":
            n_bytes = shard_file(shard).bytes
            return ReadCost(n_bytes, reading_requests(n_bytes))
        case _:
            return None


def is_on_object_store(uri: str) -> bool:
    return not is_local(locate(uri))


def _labels_of(data: DataConfig) -> frozenset[str] | None:
    labels = read_labels(data, "error_sample")
    if labels is not None:
        return frozenset(labels["label"].to_pylist())
    source = source_of(data)
    shards = list_shards(source.data)
    if shards[0].format == "webdataset":  # only reading all of them would tell
        return None
    images = (image for shard in shards for image in list_images(shard, source.data))
    labels = (image.weak_label for image in images if isinstance(image, ListedImage))
    return frozenset(label for label in labels if label is not None)
