"""Ids and labels of an image source without its images, as far as that is cheap."""

from collections.abc import Mapping
from dataclasses import dataclass

from dcd.config import DataConfig
from dcd.sources.listing import list_shards
from dcd.sources.objects import stat_object
from dcd.sources.records import Shard
from dcd.sources.shards import list_images
from dcd.store.errors import explained
from dcd.store.filesystems import locate

MAX_IMAGES = 500_000
MAX_TAR_BYTES = 256 * 2**20  # tars are read whole


@dataclass(frozen=True)
class Inventory:
    """The images of a source. `complete` is False where it was too large to look through.

    shard_of, label_of: by image id; the label is None where the source gives none.
    repeated: ids that stand in more than one shard.
    """

    shard_of: Mapping[str, str]
    label_of: Mapping[str, str | None]
    repeated: frozenset[str]
    complete: bool


def take_inventory(data: DataConfig) -> Inventory:
    """List the images of a source, shard by shard, up to MAX_IMAGES or MAX_TAR_BYTES.

    Raises DataError if nothing matches or columns are missing, StoreError if the store fails.
    """
    shards = list_shards(data)
    shard_of: dict[str, str] = {}
    label_of: dict[str, str | None] = {}
    repeated = set()
    tar_bytes = 0
    for shard in shards:
        if shard.format == "webdataset":
            tar_bytes += _n_bytes(shard)
        if len(shard_of) + (shard.n_images or 0) > MAX_IMAGES or tar_bytes > MAX_TAR_BYTES:
            return Inventory(shard_of, label_of, frozenset(repeated), complete=False)
        for image in list_images(shard, data):
            if shard_of.setdefault(image.image_id, shard.uri) != shard.uri:
                repeated.add(image.image_id)
            label_of.setdefault(image.image_id, image.weak_label)
    return Inventory(shard_of, label_of, frozenset(repeated), complete=True)


def _n_bytes(shard: Shard) -> int:
    with explained(shard.uri, "read"):
        return stat_object(locate(shard.uri)).n_bytes
