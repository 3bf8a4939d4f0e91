"""Find pictures that stand under two ids among the images that prove something.

In one split each counts twice; in two splits what is trained on proves something.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations

from dcd.config import Split
from dcd.errors import DataError
from dcd.sources.objects import is_local
from dcd.sources.shards import fetch_images
from dcd.sources.source import source_of
from dcd.splits.shared import shared_words
from dcd.store.filesystems import locate
from dcd.tables.schemas import content_hash
from dcd.validation.problems import Note
from dcd.validation.splits import Members

MAX_PICTURES, MAX_REMOTE_PICTURES = 2_000, 200  # of a split
MAX_BYTES = 128 * 2**20  # of a source
_PROVING: tuple[Split, ...] = ("error_sample", "debug_val", "debug_heldout")
_BESIDE: tuple[Split, ...] = ("train", "test")  # where reading costs no requests


def repeated_pictures(views: Sequence[Sequence[Members]]) -> Iterator[Note]:
    """Tell of pictures that several ids of a split, or of two, name, by the hash of their bytes.

    views: the splits of each seed; each source is read once. Looks at the first pictures by id, up
    to MAX_PICTURES a split and MAX_BYTES a source; at those of train and test where they are local.
    Raises StoreError if the store fails.
    """
    of_source: dict[str, list[Members]] = defaultdict(list)
    for members in (members for view in views for members in view):
        if _is_looked_into(members):
            of_source[members.data.images].append(members)
    hashes = {images: _hashes(group) for images, group in of_source.items()}
    for group in of_source.values():
        for members in group:
            if members.split != "train" and (told := _told(members, hashes[members.data.images])):
                yield Note(members.split, told)
    for view in views:
        for one, other in combinations(filter(_is_looked_into, view), 2):
            if told := _shared(one, other, hashes):
                yield Note(other.split, told)


def _is_looked_into(members: Members) -> bool:
    if members.inventory is None:
        return False
    return members.split in _PROVING or (
        members.split in _BESIDE and is_local(locate(members.data.images))
    )


def _shared(one: Members, other: Members, hashes: dict[str, dict[str, bytes]]) -> str:
    """Say which pictures of a split stand in an earlier one under another id; "" if none does."""
    here, there = (
        {hashed: i for i, hashed in hashes[m.data.images].items() if i in m.label_of}
        for m in (one, other)
    )
    if one.data.images == other.data.images:  # then `overlaps` tells of equal ids
        here = {hashed: i for hashed, i in here.items() if there.get(hashed) != i}
    return shared_words(one.split, here, there)


def _hashes(group: Sequence[Members]) -> dict[str, bytes]:
    """The hash of each picture that was looked at, by its id in the source."""
    inventory, data = group[0].inventory, source_of(group[0].data).data
    assert inventory is not None
    at_most = MAX_PICTURES if is_local(locate(data.images)) else MAX_REMOTE_PICTURES
    wanted = {i for members in group for i in sorted(members.label_of)[:at_most]}
    in_shard: dict[str, list[str]] = defaultdict(list)
    for image_id in sorted(wanted & inventory.shard_of.keys()):
        in_shard[inventory.shard_of[image_id]].append(image_id)
    found: dict[str, bytes] = {}
    n_bytes = 0
    for uri, ids in in_shard.items():
        with suppress(DataError):  # unreadable images become rejects
            for image in fetch_images(inventory.shards[uri], data, ids):
                found[image.image_id] = content_hash(image.data)
                n_bytes += len(image.data)
                if n_bytes > MAX_BYTES:
                    return found
    return found


def _told(members: Members, hashes: dict[str, bytes]) -> str:
    """Say which pictures of a split stand under several ids; "" if none does."""
    ids_of: dict[bytes, list[str]] = defaultdict(list)
    for image_id in sorted(members.label_of.keys() & hashes.keys()):
        ids_of[hashes[image_id]].append(image_id)
    copies = [ids for ids in ids_of.values() if len(ids) > 1]
    if not copies:
        return ""
    n_looked_at, n_images = sum(map(len, ids_of.values())), len(members.label_of)
    looked = "" if n_looked_at == n_images else f" of the {n_looked_at:,} that were looked at"
    torn = [ids for ids in copies if len({members.label_of[i] for i in ids}) > 1]
    labels = f"; {len(torn):,} of them with different labels" if torn else ""
    first = (torn or copies)[0]
    return (
        f"{sum(map(len, copies)):,} of {n_images:,} images{looked} are "
        f"{len(copies):,} pictures under several ids, such as {first[0]!r} and {first[1]!r}"
        f"{labels}; each id counts as an image of its own, so leave all but one out"
    )
