"""Describe a source of images: where it is, its listing into shards, fetching images by id."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SPLITS, DataConfig, PoolConfig, RunConfig
from dcd.errors import ConfigError, DataError, DCDError, ObjectNotFound, ObjectUnreadable
from dcd.sources.listing import look_through
from dcd.sources.records import RawImage, Shard
from dcd.sources.shards import fetch_images, shards_from_table, shards_table
from dcd.store import Store, keys
from dcd.store.store_format import open_for_writing

log = logging.getLogger(__name__)
_PASSED_OVER, _IMAGES = "passed_over", "images"


@dataclass(frozen=True)
class Source:
    """Images that are embedded once: `id` names them in the store, `data` says how to read them."""

    id: str
    data: DataConfig


def source_of(data: DataConfig) -> Source:
    """Return the image source of a data set; data sets with the same images share one."""
    reading = DataConfig(
        images=data.images,
        label_column=None if data.labels else data.label_column,
        id_column=data.id_column,
        image_column=data.image_column,
    )
    return Source(keys.pool_id(data.images, getattr(data, "name", None)), reading)


def sources(config: RunConfig) -> list[Source]:
    """Return every distinct image source of a run, the pool's first.

    A split whose images are those of the pool reads the pool's embeddings, under its name. Raises
    ConfigError where two sections read the same images by other columns.
    """
    if faults := reading_faults(config):
        raise ConfigError([f"{place}: {fault}" for place, fault in faults.items()])
    found: dict[str, Source] = {}
    for _, data in _sections(config):
        found.setdefault(data.images, source_of(data))
    return list(found.values())


def reading_faults(config: RunConfig) -> dict[str, str]:
    """Find sections that ask other columns of images which an earlier section names too.

    Images are read once, with one label each. Returns what is wrong by the section's name.
    """
    first: dict[str, tuple[str, DataConfig]] = {}
    faults: dict[str, str] = {}
    for place, data in _sections(config):
        named, other = first.setdefault(data.images, (place, source_of(data).data))
        asked = ["id_column", "image_column"]
        if data.labels is None:
            asked.append("label_column")
        for key in asked:
            mine, read = getattr(data, key), getattr(other, key)
            if mine != read and place not in faults:
                mend = "name the same one"
                if key == "label_column":
                    mend += ", or give a `labels` table (a Parquet file of images can be its own)"
                faults[place] = (
                    f"{key} {mine!r} is asked of the images of {named}, which are read with "
                    f"{read!r}: {data.images}; {mend}"
                )
    return faults


def _sections(config: RunConfig) -> list[tuple[str, DataConfig]]:
    """The data sets of a run for every seed, by the names of their sections, the pool first."""
    found: list[tuple[str, DataConfig]] = [("pool", config.pool)]
    for seed in config.seeds:
        for split in SPLITS:
            data = config.dataset(split, seed)
            if data is not None:
                found.append((split, data))
    return found


def fetch_all(store: Store, of: Sequence[Source], rows: pa.Table) -> Mapping[str, bytes]:
    """Fetch encoded images by id, from several sources. rows: table with image_id and shard."""
    return {raw.image_id: raw.data for raw in fetch_each(store, of, rows)}


def fetch(store: Store, source: Source, rows: pa.Table) -> Mapping[str, bytes]:
    """Fetch encoded images by id. rows: table with image_id, shard. Missing images are left out."""
    return fetch_all(store, [source], rows)


def fetch_each(store: Store, of: Sequence[Source], rows: pa.Table) -> Iterator[RawImage]:
    """Yield the images of `fetch_all` one by one, by shard: for more than memory holds."""
    for source, shard, wanted in _by_shard(store, of, rows):
        yield from fetch_images(shard, source.data, wanted)


def _by_shard(
    store: Store, of: Sequence[Source], rows: pa.Table
) -> Iterator[tuple[Source, Shard, list[str]]]:
    """Every shard that holds some of the rows, with their ids."""
    wanted_shards = set(rows["shard"].to_pylist())
    for source in of:
        shards = {s.name: s for s in shards_from_table(store.read_table(keys.shards(source.id)))}
        for name in sorted(wanted_shards & shards.keys()):
            wanted = rows.filter(pc.equal(rows["shard"], name))["image_id"].to_pylist()
            yield source, shards[name], wanted


def fetch_shown(store: Store, of: Sequence[Source], rows: pa.Table) -> Mapping[str, bytes]:
    """Fetch the pictures of a page, as `fetch_all`; what cannot be read any more is left out.

    A page is made when all work is done, and must not fail for a picture.
    """
    found: dict[str, bytes] = {}
    for source, shard, wanted in _by_shard(store, of, rows):
        try:
            for raw in fetch_images(shard, source.data, wanted):
                found[raw.image_id] = raw.data
        except (DCDError, OSError, pa.ArrowException) as err:
            log.warning("%s: pictures of the report cannot be read: %s", shard.uri, err)
    return found


def list_source(store: Store, source: Source) -> list[Shard]:
    """List the shards of a source and note them in the store. DataError if there are none."""
    listing = look_through(source.data)
    passed_over = str(listing.passed_over) if len(listing.passed_over) else ""
    metadata = {_PASSED_OVER: passed_over, _IMAGES: source.data.images}
    store.write_table(keys.shards(source.id), shards_table(listing.shards), metadata=metadata)
    return list(listing.shards)


def open_for_pool(url: str, pool: PoolConfig) -> Store:
    """Open a store to write there what is made of a pool.

    Raises StoreError for a store that a newer dcd wrote, else as `check_name`.
    """
    store = open_for_writing(url)
    check_name(store, pool)
    return store


def check_name(store: Store, pool: PoolConfig) -> None:
    """Raise DataError if the pool's name stands for other images in this store.

    A report, or full training, would look for pictures in the wrong place. A pool that grew or was
    moved is the same one: some shard is as it was noted.
    """
    if pool.name is None:
        return
    key = keys.shards(pool.name)
    try:
        noted = store.read_table(key)
    except (ObjectNotFound, ObjectUnreadable):
        return  # listing writes it anew
    images = (noted.schema.metadata or {}).get(_IMAGES.encode(), b"").decode()
    if images in ("", pool.images):
        return
    before = {(shard.name, shard.etag) for shard in shards_from_table(noted)}
    now = {(shard.name, shard.etag) for shard in look_through(source_of(pool).data).shards}
    if before and not before & now:
        raise DataError(
            f"the name {pool.name} is that of {images} in {store.url}, of which nothing is at "
            f"{pool.images}; give the pool another name, or, if it is the same one in other files, "
            f"delete {store.uri(key)}"
        )


def passed_over_in(store: Store, source: Source) -> str:
    """Say what the last `list_source` passed over as no images, in words; "" for nothing."""
    return store.read_metadata(keys.shards(source.id)).get(_PASSED_OVER, "")
