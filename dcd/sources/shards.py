"""Put the readers behind one face: a source's shards, and the images in them.

The same readers serve the pool, train, test and the error samples. Image bytes stay in the
user's own archives, local or on S3; they are streamed, with memory bounded whatever the size.
"""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pyarrow as pa

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.images.decode import BadImage, decode
from dcd.sources.files import list_files, read_folder, read_manifest
from dcd.sources.lance import list_lance, read_lance
from dcd.sources.listing import list_shards
from dcd.sources.mds.images import list_mds, read_mds
from dcd.sources.parquet import fetch_parquet, list_parquet, read_parquet
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import ListedImage, RawImage, Reject, Shard
from dcd.sources.webdataset import read_webdataset
from dcd.tables import schemas


def read_shard(
    shard: Shard, data: DataConfig, passed_over: PassedOver | None = None
) -> Iterator[RawImage | Reject]:
    """Yield every image of a shard, or why it is none, in a stable order.

    Damage inside the shard becomes rejects, and so does an id that occurs again. Raises DataError
    if columns are missing, StoreError if the shard is gone or the store fails. `passed_over` gets
    the members of a tar that are no images.
    """
    seen: set[str] = set()
    for image in _open(shard, data, passed_over=passed_over):
        if isinstance(image, RawImage):
            if image.image_id in seen:
                yield Reject(image.image_id, "read", "an earlier image of this shard has this id")
                continue
            seen.add(image.image_id)
        yield image


def read_images(data: DataConfig) -> Iterator[RawImage]:
    """Yield all encoded images of a data set; what cannot be read is passed over.

    Raises DataError if there is no shard.
    """
    for shard in list_shards(data):
        for image in read_shard(shard, data):
            if isinstance(image, RawImage):
                yield image


def decoded_images(data: DataConfig) -> Iterator[np.ndarray]:
    """Yield the pixels of those that decode: (H, W, 3) uint8. Raises as `read_images`."""
    for shard in list_shards(data):
        yield from decoded_of_shard(shard, data)


def decoded_of_shard(shard: Shard, data: DataConfig) -> Iterator[np.ndarray]:
    """Yield the pixels of a shard's images that decode: (H, W, 3) uint8."""
    for image in read_shard(shard, data):
        if not isinstance(image, RawImage):
            continue
        try:
            pixels = decode(image.data)
        except BadImage:
            continue
        yield pixels


def fetch_images(shard: Shard, data: DataConfig, image_ids: Collection[str]) -> Iterator[RawImage]:
    """Yield the images with these ids, in the shard's order; no others are read into memory.

    Raises DataError at the end if some were not found.
    """
    missing = set(image_ids)
    wanted = frozenset(missing)
    if shard.format == "parquet":
        images: Iterator[RawImage | Reject] = fetch_parquet(shard, data, wanted)
    else:
        images = _open(shard, data, wanted)
    while missing and (image := next(images, None)):
        if isinstance(image, RawImage) and image.image_id in missing:
            missing.discard(image.image_id)
            yield image
    if missing:
        raise DataError(
            f"{shard.uri}: {len(missing)} of {len(wanted)} images are not in it any more, such as "
            f"{min(missing)!r}; embed the changed shard again"
        )


def list_images(
    shard: Shard, data: DataConfig, passed_over: PassedOver | None = None
) -> Iterator[ListedImage | Reject]:
    """Yield the ids and labels of a shard's images.

    All bytes are read for it of tars, and of MDS that is packed or lies on an object store. What
    is seen to be none without reading images is a reject, as `read_shard` makes it.
    `passed_over` gets the members of a tar that are no images. Raises DataError if the shard is
    gone or lacks its columns, StoreError if the store fails.
    """
    match shard.format:
        case "webdataset":
            images = read_webdataset(shard, data, passed_over=passed_over)
            return (
                ListedImage(image.image_id, image.weak_label, image.spelling)
                if isinstance(image, RawImage)
                else image
                for image in images
            )
        case "parquet":
            return list_parquet(shard, data)
        case "lance":
            return list_lance(shard, data)
        case "mds":
            return list_mds(shard, data)
        case _:
            return list_files(shard, data)


def shards_table(shards: Iterable[Shard]) -> pa.Table:
    """Put shards into a table of `schemas.SHARDS`."""
    rows = [
        {
            "shard": shard.name,
            "uri": shard.uri,
            "format": shard.format,
            "n_images": shard.n_images,
            "etag": shard.etag,
        }
        for shard in shards
    ]
    return pa.Table.from_pylist(rows, schema=schemas.SHARDS)


def shards_from_table(table: pa.Table) -> list[Shard]:
    """Invert `shards_table`. Raises SchemaMismatch."""
    rows = schemas.conform(table, schemas.SHARDS, "shards").to_pylist()
    return [Shard(name=row.pop("shard"), **row) for row in rows]


def _open(
    shard: Shard,
    data: DataConfig,
    wanted: frozenset[str] | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[RawImage | Reject]:
    match shard.format:
        case "webdataset":
            return read_webdataset(shard, data, wanted, passed_over)
        case "parquet":
            return read_parquet(shard, data)
        case "folder":
            return read_folder(shard, data, wanted)
        case "manifest":
            return read_manifest(shard, data, wanted)
        case "lance":
            return read_lance(shard, data, wanted)
        case "mds":
            return read_mds(shard, data, wanted)
