"""Reckon what embedding a pool will cost, before anybody pays for it. Pure.

What is done is left out; the rest follows from counts, from a sample of images and rows, and from
what each module says of the requests that its own code sends. `dcd.estimate.indexing` goes on from
the embeddings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dcd.config import DataConfig
from dcd.embeddings.embed import ShardStats, footer_of, shard_requests
from dcd.estimate.pool_sample import PoolSample
from dcd.estimate.pool_state import PlannedShard
from dcd.estimate.synthetic_rows import table_bytes
from dcd.sources import listing, tar_members
from dcd.sources.files import file_requests
from dcd.store.parquet import as_parquet
from dcd.store.requests import Requests, listing_requests, total, writing_requests
from dcd.tables import schemas

Stage = Literal["embed", "index", "select"]


@dataclass(frozen=True)
class StageCost:
    """What one stage will do.

    n_rows: images to embed, rows to write to the index, or rows of the failures' labels to read.
    pool_requests, store_requests: None where the place is a folder. hours: None where unknown.
    note: what the numbers leave out, empty if nothing.
    """

    stage: Stage
    n_rows: int
    bytes_read: int
    bytes_written: int
    pool_requests: Requests | None
    store_requests: Requests | None
    n_tasks: int
    hours: float | None
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """A pool by an encoder: what is done, what is left, and what each stage costs.

    n_counted of n_images_left are known, the others follow from bytes. images_per_s: of each of
    n_machines machines; None where too few images are left to tell.
    """

    pool: str
    encoder_id: str
    n_shards: int
    n_shards_left: int
    n_images_done: int
    n_images_left: int
    n_counted: int
    images_per_s: float | None
    n_machines: int
    stages: tuple[StageCost, ...]


@dataclass(frozen=True)
class Pool:
    """What is known of a pool and its embeddings.

    sample: of what is left; None if nothing is. rows: schemas.embeddings(D) and `shard`, embedded
    ones or else the sample's. task_requests: to the kept results of tasks.
    """

    data: DataConfig
    encoder_id: str
    shards: Sequence[PlannedShard]
    sample: PoolSample | None
    rows: pa.Table
    n_tasks: int
    task_requests: Requests
    pool_is_remote: bool
    store_is_remote: bool

    @property
    def left(self) -> list[PlannedShard]:
        return [one for one in self.shards if one.done is None]

    @property
    def done(self) -> list[ShardStats]:
        return [one.done for one in self.shards if one.done is not None]

    @property
    def embedded_share(self) -> float:
        """The share of the images that are left that will be embedded, as of the sample's."""
        return 1 if self.sample is None else self.sample.n_embedded / self.sample.n_images

    @property
    def n_embedded(self) -> int:
        """Rows of all shards, once all are embedded."""
        left = sum(self.images_of(one) for one in self.left)
        return sum(one.n_embedded for one in self.done) + round(left * self.embedded_share)

    def images_of(self, one: PlannedShard) -> int:
        """Return the images of a shard that is left; a tar's follow from its bytes."""
        if one.shard.n_images is not None:
            return one.shard.n_images
        return round((one.archive_bytes or 0) / self._tar_bytes_an_image())

    def _tar_bytes_an_image(self) -> float:
        """By the finished tars, which tell better than the sample."""
        known = [
            (one.archive_bytes, one.done.n_images)
            for one in self.shards
            if one.archive_bytes and one.done is not None and one.done.n_images
        ]
        if known:
            return sum(n_bytes for n_bytes, _ in known) / sum(n for _, n in known)
        if self.sample is None:
            raise ValueError("tars are left, but no sample of them was taken")
        return self.sample.tar_bytes / self.sample.n_images


def embedding_cost(pool: Pool, images_per_s: float | None, n_machines: int) -> StageCost:
    """Reckon the stage that embeds a pool; images_per_s is that of one machine."""
    left = pool.left
    n_images = sum(pool.images_of(one) for one in left)
    table, rejects = _shard_bytes(pool, n_images)
    looked_at = [
        shard_requests(table if one.done is None else None, one.is_there)
        for one in pool.shards
        if one.is_looked_at
    ]
    noted = writing_requests(0) * 2  # the shards, and those that failed
    present = listing_requests(sum(one.is_there for one in pool.shards))
    store = total([noted, present, pool.task_requests, *looked_at])
    pool_requests = listing.shard_listing_requests(pool.data, [one.shard for one in pool.shards])
    reads = [_reading(pool, one) for one in left]
    pool_requests += total(requests for _, requests in reads)
    unknown = bool(left) and images_per_s is None
    return StageCost(
        "embed",
        n_images,
        sum(n_bytes for n_bytes, _ in reads),
        len(left) * (table + rejects),
        pool_requests if pool.pool_is_remote else None,
        store if pool.store_is_remote else None,
        pool.n_tasks,
        None if unknown else n_images / ((images_per_s or 1) * n_machines) / 3600,
        "fewer images than a batch are left, so the speed could not be measured" if unknown else "",
    )


def _reading(pool: Pool, one: PlannedShard) -> tuple[int, Requests]:
    """Bytes and requests of reading a whole shard."""
    if one.reading is not None:
        return one.reading.n_bytes, one.reading.requests
    if one.archive_bytes is not None:
        return one.archive_bytes, tar_members.reading_requests(one.archive_bytes)
    sample = pool.sample
    an_image = 0 if sample is None else sample.image_bytes / sample.n_images
    return round((one.shard.n_images or 0) * an_image), file_requests(one.shard, pool.data)


def _shard_bytes(pool: Pool, n_images: int) -> tuple[int, int]:
    """Bytes of the embeddings and of the rejects of a shard of the mean size."""
    if not pool.left:
        return 0, 0
    n_rows = round(n_images * pool.embedded_share / len(pool.left))
    shard = pool.left[0].shard
    footer = footer_of(pool.encoder_id, shard, ShardStats(shard.name, n_rows, n_rows, 0))
    rows = pool.rows.drop_columns("shard").replace_schema_metadata(footer)
    rejects = schemas.REJECTS.empty_table().replace_schema_metadata(footer)
    return table_bytes(rows, n_rows), len(as_parquet(rejects))
