"""Look at images: the first ones of a data set, or those that a table names."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
from PIL import Image

from dcd.config import DataConfig, PoolConfig
from dcd.errors import DataError
from dcd.images.decode import decode
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.sources.source import fetch_each, source_of
from dcd.splits.label_table import read_labels
from dcd.store import Store


@dataclass(frozen=True)
class LabelledImage:
    """An image to look at.

    Attributes:
        image_id: its id.
        label: what its label table or else its source says; None where neither says anything.
        image: the picture, upright, as RGB.
    """

    image_id: str
    label: str | None
    image: Image.Image


def peek(data: DataConfig, n: int) -> list[LabelledImage]:
    """Read the first `n` images of a data set, without a store.

    Where the data set has a label table, these are the first that it has a row for.

    Args:
        data: a section of a config, such as `config.pool` or `config.dataset("train", seed=0)`.
        n: how many; fewer come back where there are no more.

    Raises:
        DataError: the images or labels are not where the config says.
        BadImage: one of the images cannot be decoded.
    """
    return [
        LabelledImage(raw.image_id, label, Image.fromarray(decode(raw.data)))
        for raw, label in islice(_labelled(data), n)
    ]


def read_images(store: Store, data: DataConfig, rows: pa.Table) -> dict[str, Image.Image]:
    """Read the images that a table names.

    Args:
        store: where the data set is embedded.
        data: a section of a config, the one that the images come from.
        rows: with the columns `image_id` and `shard`, as `dcd.select` gives them.

    Returns:
        The pictures by their image_id, upright, as RGB.

    Raises:
        DataError: an image is not in its shard any more, or the data set has no such shard.
        BadImage: an image cannot be decoded.
    """
    wanted = rows.select(["image_id", "shard"])
    found = {
        raw.image_id: Image.fromarray(decode(raw.data))
        for raw in fetch_each(store, [source_of(data)], wanted)
    }
    missing = set(wanted["image_id"].to_pylist()) - found.keys()
    if missing:
        raise DataError(
            f"{data.images}: {len(missing)} of the images are in no shard that is embedded of it, "
            f"such as {min(missing)}; name the section of the config that they come from"
        )
    return found


def _labelled(data: DataConfig) -> Iterator[tuple[RawImage, str | None]]:
    of_pool = isinstance(data, PoolConfig)
    table = read_labels(data, data.images, several_per_image=of_pool)
    known: dict[str, list[str]] = {}
    for row in [] if table is None else table.to_pylist():
        known.setdefault(row["image_id"], []).append(row["label"])
    for shard in list_shards(data):
        for raw in read_shard(shard, data):
            if not isinstance(raw, RawImage):
                continue
            if table is None:
                yield raw, raw.weak_label
            elif raw.image_id in known:
                yield raw, ", ".join(known[raw.image_id])
