"""Embed a few images of a pool for speed and sizes, or take rows of what is embedded already.

Reads the pool and the store, writes nothing.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import pyarrow as pa

from dcd.config import DataConfig
from dcd.embeddings.embed import EmbeddedShard, ShardStats, embed_images
from dcd.encoders.encoder import Encoder
from dcd.errors import DataError
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.shards import read_shard
from dcd.sources.webdataset import bytes_in_tar
from dcd.store import Store, keys
from dcd.threads import cores

_SAMPLE_S = 15
_MIN_IMAGES, _MAX_IMAGES = 128, 512
_MAX_ROW_BYTES = 2**26  # of vectors of embedded shards


@dataclass(frozen=True)
class PoolSample:
    """What a few images of the shards that are left are like.

    n_images: read; of them n_embedded could be embedded. image_bytes, tar_bytes: of all, encoded,
    and as members of a tar. rows: their embeddings and `shard`. images_per_s: read, decoded and
    embedded, on all cores of this machine, nothing being compiled; None where fewer than a batch
    are left, which tell nothing.
    """

    n_images: int
    n_embedded: int
    image_bytes: int
    tar_bytes: int
    rows: pa.Table
    images_per_s: float | None


def sample_pool(shards: Sequence[Shard], data: DataConfig, encoder: Encoder) -> PoolSample:
    """Embed the first images of these shards, for about 15 seconds.

    The network is compiled, and the threads are started, for a batch that does not count. Whole
    batches are timed: those that follow, or where fewer follow the first ones once more. Raises
    DataError if no image can be embedded.
    """
    images = _images(shards, data)
    first = list(islice(images, encoder.batch_size))
    embed_images("warm-up", first, encoder)
    started = time.perf_counter()
    warm = embed_images("sample", first, encoder)
    per_s = len(first) / (time.perf_counter() - started)
    parts = [(first, warm)]
    images_per_s = None
    if len(first) == encoder.batch_size:
        wanted = _whole_batches(per_s, encoder.batch_size)
        images_per_s, timed = _timed(images, wanted, encoder)
        if timed is None:
            images_per_s, timed = _timed(_images(shards, data), wanted, encoder)
            parts = []
        parts += [] if timed is None else [timed]
    found = [image for read, _ in parts for image in read if isinstance(image, RawImage)]
    rows = pa.concat_tables([_with_shard(embedded, shards[0].name) for _, embedded in parts])
    if rows.num_rows == 0:
        n_read = sum(len(read) for read, _ in parts)
        raise DataError(
            f"{shards[0].uri}: none of its first {n_read} images could be embedded, so there is "
            "nothing to estimate from; dcd embed lists the reasons"
        )
    return PoolSample(
        n_images=sum(len(read) for read, _ in parts),
        n_embedded=rows.num_rows,
        image_bytes=sum(len(image.data) for image in found),
        tar_bytes=sum(bytes_in_tar(image) for image in found),
        rows=rows,
        images_per_s=images_per_s,
    )


def embedded_rows(
    store: Store, source_id: str, encoder_id: str, done: Sequence[ShardStats]
) -> pa.Table | None:
    """Read rows of a few embedded shards, spread over all, with `shard`; None if there are none.

    Whole shards, so that ids and labels stand as densely as they do; of 64 MiB at most, or one.
    """
    full = [stats for stats in done if stats.n_embedded]
    tables, n_bytes = [], 0
    for at in _spread(len(full)):
        key = keys.embeddings(source_id, encoder_id, full[at].shard)
        table = store.read_table(key).replace_schema_metadata(None)
        row_bytes = 2 * table.schema.field("embedding").type.list_size
        tables.append(table.append_column("shard", pa.repeat(full[at].shard, table.num_rows)))
        n_bytes += table.num_rows * row_bytes
        if n_bytes + max(stats.n_embedded for stats in full) * row_bytes > _MAX_ROW_BYTES:
            break
    return pa.concat_tables(tables).combine_chunks() if tables else None


def _spread(n: int) -> list[int]:
    """0…n-1 in an order of which every beginning is spread over all."""
    golden = (5**0.5 - 1) / 2
    places = np.argsort((np.arange(n) * golden) % 1, kind="stable")
    return np.argsort(places, kind="stable").tolist()


def _images(shards: Sequence[Shard], data: DataConfig) -> Iterator[RawImage | Reject]:
    return chain.from_iterable(read_shard(shard, data) for shard in shards)


def _whole_batches(images_per_s: float, batch_size: int) -> int:
    """How many images to time: for some seconds, and a batch at least for every core."""
    wanted = min(_MAX_IMAGES, max(_MIN_IMAGES, int(_SAMPLE_S * images_per_s)))
    return batch_size * max(cores(), wanted // batch_size)


def _timed(
    images: Iterator[RawImage | Reject], wanted: int, encoder: Encoder
) -> tuple[float | None, tuple[list[RawImage | Reject], EmbeddedShard] | None]:
    """Images a second over whole batches of at most `wanted`; None if not one is filled."""
    read: list[RawImage | Reject] = []

    def noted() -> Iterator[RawImage | Reject]:
        for image in islice(images, wanted):
            read.append(image)
            yield image

    started = time.perf_counter()
    embedded = embed_images("sample", noted(), encoder)
    seconds = time.perf_counter() - started
    if len(read) < encoder.batch_size:
        return None, None
    return len(read) / seconds, (read, embedded)


def _with_shard(embedded: EmbeddedShard, shard: str) -> pa.Table:
    rows = embedded.embeddings
    return rows.append_column("shard", pa.repeat(shard, rows.num_rows))
