"""Take the inventory of an image source, ids and labels without images, as far as that is cheap."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.listing import look_through
from dcd.sources.objects import stat_object
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import Shard
from dcd.sources.shards import fetch_images, list_images
from dcd.store.errors import explained
from dcd.store.filesystems import locate
from dcd.tables.labels import spelling_notes
from dcd.validation.problems import Note, Problem

MAX_IMAGES = 500_000
MAX_TAR_BYTES = 256 * 2**20  # tars are read whole
_COMPARED_IDS = 32  # of those that stand in two shards: their images are read


@dataclass(frozen=True)
class Inventory:
    """The images of a source. `complete` is False where it was too large to look through.

    shard_of, label_of: by image id; the label is None where the source gives none. repeated: the
    second place of ids that stand in two shards. shards: by URI. n_within: images whose id an
    earlier image of their own shard has, by shard. spellings: of labels that are not written as
    themselves everywhere, with counts. passed_over: what is no image.
    """

    shard_of: Mapping[str, str]
    label_of: Mapping[str, str | None]
    repeated: Mapping[str, str]
    complete: bool
    shards: Mapping[str, Shard] = field(default_factory=dict)
    n_within: Mapping[str, int] = field(default_factory=dict)
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    passed_over: PassedOver = field(default_factory=PassedOver)


def take_inventory(data: DataConfig) -> Inventory:
    """List the images of a source, shard by shard, up to MAX_IMAGES or MAX_TAR_BYTES.

    Raises DataError if nothing matches or columns are missing, StoreError if the store fails.
    """
    listing = look_through(data)
    passed_over = listing.passed_over
    shard_of: dict[str, str] = {}
    label_of: dict[str, str | None] = {}
    repeated: dict[str, str] = {}
    within: Counter[str] = Counter()
    ways: Counter[tuple[str, str]] = Counter()
    tar_bytes = 0
    complete = True
    for shard in listing.shards:
        if shard.format == "webdataset":
            tar_bytes += _n_bytes(shard)
        if len(shard_of) + (shard.n_images or 0) > MAX_IMAGES or tar_bytes > MAX_TAR_BYTES:
            complete = False
            break
        for image in list_images(shard, data, passed_over):
            if (there := shard_of.setdefault(image.image_id, shard.uri)) != shard.uri:
                repeated[image.image_id] = shard.uri
            elif image.image_id in label_of:
                within[there] += 1
            label_of.setdefault(image.image_id, image.weak_label)
            if image.weak_label is not None:
                ways[image.weak_label, image.spelling or image.weak_label] += 1
    return Inventory(
        shard_of,
        label_of,
        repeated,
        complete,
        {shard.uri: shard for shard in listing.shards},
        within,
        _respelled(ways),
        passed_over,
    )


def inventory_notes(place: str, inventory: Inventory) -> Iterator[Note]:
    """Tell what is merged or passed over among the images of a source."""
    if len(inventory.passed_over):
        yield Note(f"{place}.images", str(inventory.passed_over))
    for told in spelling_notes(inventory.spellings):
        yield Note(f"{place}.images", told)
    for uri, n in sorted(inventory.n_within.items()):
        yield Note(
            f"{place}.images",
            f"{n:,} images of {uri} have the id of an earlier image there; passed over",
        )


def repeated_ids(data: DataConfig, inventory: Inventory) -> Iterator[Problem | Note]:
    """Tell of ids of the pool that stand in two shards: a fault if their pictures differ.

    Looks into at most `_COMPARED_IDS` of them; indexing compares all.
    """
    if not inventory.repeated:
        return
    looked_at = sorted(inventory.repeated)[:_COMPARED_IDS]
    for image_id in looked_at:
        places = inventory.shard_of[image_id], inventory.repeated[image_id]
        if len({_bytes_of(inventory.shards[uri], data, image_id) for uri in places}) > 1:
            yield Problem("pool.images", two_images(image_id, places, len(inventory.repeated)))
            return
    yield Note(
        "pool.images",
        f"{len(inventory.repeated):,} image ids stand in two places, such as {looked_at[0]!r}; the "
        f"pictures of {len(looked_at)} were compared and are the same, so each counts once",
    )


def two_images(image_id: str, places: tuple[str, str], n_ids: int) -> str:
    """Say that an id names two images."""
    more = f" ({n_ids:,} ids stand in two places)" if n_ids > 1 else ""
    return (
        f"image_id {image_id!r} names one image in {places[0]} and another in {places[1]}{more}; "
        "make the ids unique"
    )


def _bytes_of(shard: Shard, data: DataConfig, image_id: str) -> bytes | None:
    with suppress(DataError):  # unreadable images become rejects
        return next(iter(fetch_images(shard, data, [image_id]))).data
    return None


def _respelled(ways: Mapping[tuple[str, str], int]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for (label, spelling), n in ways.items():
        found.setdefault(label, Counter())[spelling] += n
    return {label: counts for label, counts in found.items() if set(counts) != {label}}


def _n_bytes(shard: Shard) -> int:
    with explained(shard.uri, "read"):
        return stat_object(locate(shard.uri)).n_bytes
