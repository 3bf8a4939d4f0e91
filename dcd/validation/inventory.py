"""Take the inventory of an image source, ids and labels without images, as far as that is cheap."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.files import absent_files
from dcd.sources.listing import look_through
from dcd.sources.mds.images import bytes_to_list
from dcd.sources.objects import stat_object
from dcd.sources.parquet import rows_without_bytes
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import Reject, Shard
from dcd.sources.shards import fetch_images, list_images
from dcd.store.errors import explained
from dcd.store.filesystems import locate
from dcd.tables.labels import spelling_notes
from dcd.validation.problems import Note, Problem

MAX_IMAGES = 500_000
MAX_TAR_BYTES = 256 * 2**20  # tars are read whole, MDS as a rule
SAMPLED_TARS, SAMPLED_IMAGES = 4, 250  # of tars beyond that: of so many the first so many images
_READ_WHOLE = ("webdataset", "mds")
_COMPARED_IDS = 32  # of those that stand in two shards: their images are read
_LOOKED_FOR = 32  # files that a table names, a shard
_SHARDS_LOOKED_AT = 8
_QUOTED = re.compile(r"'[^']*'")


@dataclass
class Rejects:
    """A tally of images that are none, as far as that is seen without reading them."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reject: Reject) -> None:
        reason = _QUOTED.sub("…", reject.reason)
        self.counts[reason] += 1
        self.examples.setdefault(reason, reject.image_id)

    def __str__(self) -> str:
        """`3 images are rejects: 2 no id in column 'image_id' (such as a/7), 1 …`."""
        told = [
            f"{n:,}: {reason} (such as {self.examples[reason]!r})"
            for reason, n in self.counts.most_common(5)
        ]
        if len(self.counts) > len(told):
            told.append(f"{len(self.counts) - len(told):,} more reasons")
        n_all = self.counts.total()
        return f"{n_all:,} {'is a reject' if n_all == 1 else 'are rejects'}: {'; '.join(told)}"


@dataclass
class Inventory:
    """The images of a source. `complete` is False where it was too large to look through.

    shard_of, label_of: by image id; the label is None where the source gives none. repeated: the
    second place of ids that stand in two shards. shards: by URI. n_within: images whose id an
    earlier image of their own shard has, by shard. spellings: of labels that are not written as
    themselves everywhere, with counts. passed_over: what is no image. rejects: what would be one.
    n_read: shards that were looked through whole. sampled: those of which the first images were.
    n_looked_for, n_absent: files that rows name, and how many of them were not to be had.
    """

    shard_of: dict[str, str] = field(default_factory=dict)
    label_of: dict[str, str | None] = field(default_factory=dict)
    repeated: dict[str, str] = field(default_factory=dict)
    complete: bool = True
    shards: Mapping[str, Shard] = field(default_factory=dict)
    n_within: Counter[str] = field(default_factory=Counter)
    ways: Counter[tuple[str, str]] = field(default_factory=Counter)
    passed_over: PassedOver = field(default_factory=PassedOver)
    rejects: Rejects = field(default_factory=Rejects)
    n_read: int = 0
    sampled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_looked_for: int = 0
    n_absent: int = 0

    @property
    def spellings(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for (label, spelling), n in self.ways.items():
            found.setdefault(label, Counter())[spelling] += n
        return {label: counts for label, counts in found.items() if set(counts) != {label}}

    @property
    def n_unlabelled(self) -> int:
        return sum(label is None for label in self.label_of.values())

    def take(self, shard: Shard, data: DataConfig, at_most: int | None = None) -> None:
        """Note the images of a shard, or its first ones. Raises as `list_images`."""
        for image in islice(list_images(shard, data, self.passed_over), at_most):
            if isinstance(image, Reject):
                self.rejects.add(image)
                continue
            if (there := self.shard_of.setdefault(image.image_id, shard.uri)) != shard.uri:
                self.repeated[image.image_id] = shard.uri
            elif image.image_id in self.label_of:
                self.n_within[there] += 1
            self.label_of.setdefault(image.image_id, image.weak_label)
            if image.weak_label is not None:
                self.ways[image.weak_label, image.spelling or image.weak_label] += 1


def take_inventory(data: DataConfig) -> Inventory:
    """List the images of a source, shard by shard, up to MAX_IMAGES or MAX_TAR_BYTES.

    Of tars beyond that the first images of a few. Raises DataError if nothing matches or columns
    are missing, StoreError if the store fails.
    """
    listing = look_through(data)
    shards = listing.shards
    found = Inventory(
        shards={shard.uri: shard for shard in shards},
        passed_over=listing.passed_over,
        notes=listing.notes,
    )
    tar_bytes = 0
    for shard in shards:
        tar_bytes += _bytes_to_list(shard)
        n_images = len(found.shard_of) + (shard.n_images or 0)
        if n_images > MAX_IMAGES or tar_bytes > MAX_TAR_BYTES:
            found.complete = False
            break
        found.take(shard, data)
        found.n_read += 1
    left = shards[found.n_read :]
    if not found.complete and left[0].format in _READ_WHOLE:
        sampled = _spread(left, SAMPLED_TARS)
        found.sampled = tuple(shard.uri for shard in sampled)
        for shard in sampled:
            found.take(shard, data, SAMPLED_IMAGES)
    for shard in _spread(shards, _SHARDS_LOOKED_AT):
        for reject in _named_files(shard, data):
            found.n_looked_for += 1
            if reject is not None:
                found.n_absent += 1
                found.rejects.add(reject)
    return found


def inventory_notes(place: str, inventory: Inventory) -> Iterator[Note]:
    """Tell what is merged, passed over or not looked at among the images of a source."""
    place = f"{place}.images"
    if not inventory.complete:
        yield Note(place, _not_looked_at(inventory))
    for told in inventory.notes:
        yield Note(place, told)
    if len(inventory.passed_over):
        yield Note(place, str(inventory.passed_over))
    if inventory.rejects.counts:
        looked = f" (of {inventory.n_looked_for:,} files looked for)" if inventory.n_absent else ""
        yield Note(place, f"{inventory.rejects}{looked}")
    for told in spelling_notes(inventory.spellings):
        yield Note(place, told)
    for uri, n in sorted(inventory.n_within.items()):
        yield Note(place, f"{n:,} images of {uri} have the id of an earlier image there; rejects")


def _not_looked_at(inventory: Inventory) -> str:
    n_shards = len(inventory.shards)
    told = (
        f"too large to look through before the run: {inventory.n_read:,} of {n_shards:,} shards "
        f"were, with {len(inventory.shard_of):,} images"
    )
    if inventory.sampled:
        told += (
            f" (among them the first {SAMPLED_IMAGES} of {len(inventory.sampled)} more shards, "
            f"such as {inventory.sampled[0]})"
        )
    return f"{told}; what is told here is of these, the others are checked by the run"


def _named_files(shard: Shard, data: DataConfig) -> Iterator[Reject | None]:
    """Look for files that the rows of a shard name: None for each that is there."""
    if shard.format == "manifest":
        return absent_files(shard, data, _LOOKED_FOR)
    if shard.format == "parquet":
        return rows_without_bytes(shard, data, _LOOKED_FOR)
    return iter(())


def _spread(shards: Sequence[Shard], at_most: int) -> Sequence[Shard]:
    """At most so many of them, the first, the last and others evenly between."""
    if len(shards) <= at_most:
        return shards
    return [shards[n * (len(shards) - 1) // (at_most - 1)] for n in range(at_most)]


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


def _bytes_to_list(shard: Shard) -> int:
    """Count the bytes of a shard that is read whole, images and all, for its ids and labels."""
    if shard.format == "mds":
        return bytes_to_list(shard)
    if shard.format != "webdataset":
        return 0
    with explained(shard.uri, "read"):
        return stat_object(locate(shard.uri)).n_bytes
