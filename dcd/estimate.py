"""What embedding and indexing a pool will cost, before anybody pays for it.

Shards are listed and those that are done are left out; a few images of the first missing shard are
embedded for speed and sizes. Nothing is written to the store.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.embedding import ShardStats, embed_images, published_of
from dcd.encoders import Encoder
from dcd.errors import DataError
from dcd.filesystems import locate
from dcd.index_config import IndexConfig
from dcd.indexing import SAMPLE_BYTES
from dcd.objects import stat_object
from dcd.pool import RawImage, Reject, Shard, read_shard
from dcd.store import COMPRESSION, Store
from dcd.webdataset import READ_BYTES

_SAMPLE_S = 15
_SAMPLE_IMAGES = 512
_REQUESTS_AT_ONCE = 16
_TAR_BLOCK_BYTES = 512
_LISTED_AT_ONCE = 1000
# A finished shard is recognised by the footer of its table: two reads. A new one is looked for in
# vain first and publishes two tables; the index reads a table's footer and its rows.
_REQUESTS_DONE, _REQUESTS_NEW, _REQUESTS_INDEXED = 2, 4, 3


@dataclass(frozen=True)
class PlannedShard:
    """A shard of the pool: its archive's bytes where it is one, its counts where it is done."""

    shard: Shard
    archive_bytes: int | None
    done: ShardStats | None


@dataclass(frozen=True)
class PoolSample:
    """What a few images were like: encoded bytes, bytes in a tar, and bytes of their rows.

    images_per_s: read, decoded, embedded, on all cores of this machine, the encoder being loaded.
    """

    n_images: int
    image_bytes: int
    tar_bytes: int
    row_bytes: int
    images_per_s: float


@dataclass(frozen=True)
class Estimate:
    """What is done, what is left, and what it costs. Counts of what is left.

    n_counted of n_images_left are known; the others follow from bytes. index_bytes: all of it.
    """

    n_shards: int
    n_shards_left: int
    n_images_done: int
    n_images_left: int
    n_counted: int
    bytes_read: int
    embedding_bytes: int
    index_bytes: int
    images_per_s: float
    n_machines: int
    hours: float
    n_tasks: int
    n_requests: int


def plan_shards(
    store: Store, source_id: str, encoder_id: str, shards: Sequence[Shard]
) -> list[PlannedShard]:
    """What of each shard is done; the size of an archive whose images nobody has counted."""

    def archive_bytes(shard: Shard) -> int | None:
        if shard.format != "webdataset":
            return None
        return stat_object(locate(shard.uri)).n_bytes

    done = published_of(store, source_id, encoder_id, shards)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as requests:
        return list(map(PlannedShard, shards, requests.map(archive_bytes, shards), done))


def sample_pool(shard: Shard, data: DataConfig, encoder: Encoder) -> PoolSample:
    """Embed the first images of a shard, for about 15 seconds. Raises DataError if none can be."""
    images = read_shard(shard, data)
    warm_up = list(islice(images, 2 * encoder.batch_size))
    started = time.perf_counter()
    first = embed_images(shard.name, warm_up, encoder)
    per_s = max(len(warm_up), 1) / (time.perf_counter() - started)
    wanted = max(encoder.batch_size, min(_SAMPLE_IMAGES, int(_SAMPLE_S * per_s)))

    more: list[RawImage] = []

    def noted() -> Iterator[RawImage | Reject]:
        for image in islice(images, wanted):
            if isinstance(image, RawImage):
                more.append(image)
            yield image

    started = time.perf_counter()
    second = embed_images(shard.name, noted(), encoder)
    seconds = time.perf_counter() - started
    if second.stats.n_images:  # the first images paid for the compilation of the network
        per_s = second.stats.n_images / seconds
    table = pa.concat_tables([first.embeddings, second.embeddings])
    found = [image for image in warm_up if isinstance(image, RawImage)] + more
    if table.num_rows == 0:
        raise DataError(
            f"{shard.uri}: none of its first {len(warm_up) + second.stats.n_images} images could "
            "be embedded, so there is nothing to estimate from; dcd embed lists the reasons"
        )
    return PoolSample(
        n_images=len(found),
        image_bytes=sum(len(image.data) for image in found),
        tar_bytes=sum(_bytes_in_tar(image) for image in found),
        row_bytes=_parquet_bytes(table) * len(found) // table.num_rows,
        images_per_s=per_s,
    )


def estimate(
    planned: Sequence[PlannedShard],
    sample: PoolSample | None,
    index: IndexConfig,
    dim: int,
    n_tasks: int,
    images_per_s: float | None = None,
    n_machines: int = 1,
) -> Estimate:
    """The costs of what is not done. Pure.

    sample: None if nothing is left. dim: numbers an embedding. images_per_s: of one machine,
    default: the sample's. A tar's images follow from its bytes, at the rate of the shards that are
    done or else of the sample.
    """
    left = [one for one in planned if one.done is None]
    n_done = sum(one.done.n_images for one in planned if one.done is not None)
    counted = sum(one.shard.n_images or 0 for one in left)
    if sample is None:
        if left:
            raise ValueError("shards are left, but no sample of them was taken")
        sample = PoolSample(1, 0, 1, 2 * dim, 1.0)
    image_bytes = sample.image_bytes / sample.n_images
    tar_bytes = _tar_bytes_per_image(planned) or sample.tar_bytes / sample.n_images
    row_bytes = sample.row_bytes / sample.n_images
    uncounted = [one.archive_bytes or 0 for one in left if one.shard.n_images is None]
    n_left = counted + sum(round(n_bytes / tar_bytes) for n_bytes in uncounted)
    rate = images_per_s or sample.images_per_s
    bytes_read = round(counted * image_bytes) + sum(uncounted)
    vector_bytes = {"float16": 2 * dim, "int8": dim, "pq": index.pq_bytes}[index.storage]
    sampled = min(min(index.sample_rows, n_done + n_left) * row_bytes, SAMPLE_BYTES)
    return Estimate(
        n_shards=len(planned),
        n_shards_left=len(left),
        n_images_done=n_done,
        n_images_left=n_left,
        n_counted=counted,
        bytes_read=bytes_read,
        embedding_bytes=round(n_left * row_bytes),
        index_bytes=round((n_done + n_left) * (row_bytes - 2 * dim + vector_bytes) + sampled),
        images_per_s=rate,
        n_machines=n_machines,
        hours=n_left / (rate * n_machines) / 3600,
        n_tasks=n_tasks,
        n_requests=_requests(planned, image_bytes),
    )


def _requests(planned: Sequence[PlannedShard], image_bytes: float) -> int:
    n = 2 * -(-len(planned) // _LISTED_AT_ONCE) + _REQUESTS_INDEXED * len(planned)
    for one in planned:
        if one.done is not None:
            n += _REQUESTS_DONE
            continue
        n += _REQUESTS_NEW
        if one.shard.format in ("folder", "manifest"):
            n += one.shard.n_images or 0  # a read an image
        else:
            n_bytes = one.archive_bytes or (one.shard.n_images or 0) * image_bytes
            n += 1 + int(n_bytes // READ_BYTES)
    return n


def _tar_bytes_per_image(planned: Sequence[PlannedShard]) -> float | None:
    known = [
        (one.archive_bytes, one.done.n_images)
        for one in planned
        if one.archive_bytes and one.done is not None and one.done.n_images
    ]
    return sum(b for b, _ in known) / sum(n for _, n in known) if known else None


def _bytes_in_tar(image: RawImage) -> int:
    """A header and whole blocks for the image, and as a rule two blocks for its label.

    Some writers add a kilobyte a member, which is little beside a photograph.
    """
    blocks = 1 + -(-len(image.data) // _TAR_BLOCK_BYTES)
    return _TAR_BLOCK_BYTES * (blocks + (2 if image.weak_label is not None else 0))


def _parquet_bytes(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION)
    return len(sink.getvalue())
