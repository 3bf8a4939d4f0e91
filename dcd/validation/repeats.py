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
from dcd.store.filesystems import locate
from dcd.tables.schemas import content_hash
from dcd.validation.problems import Note
from dcd.validation.splits import Members

MAX_PICTURES, MAX_REMOTE_PICTURES = 2_000, 200  # of a split
MAX_BYTES = 128 * 2**20  # of a source
_LOOKED_INTO: tuple[Split, ...] = ("error_sample", "debug_val", "debug_heldout")


def repeated_pictures(views: Sequence[Sequence[Members]]) -> Iterator[Note]:
    """Tell of pictures that several ids of a split, or of two, name, by the hash of their bytes.

    views: the splits of each seed; each source is read once. Looks at the first pictures by id, up
    to MAX_PICTURES a split and MAX_BYTES a source. Raises StoreError if the store fails.
    """
    of_source: dict[str, list[Members]] = defaultdict(list)
    for members in (members for view in views for members in view):
        if members.split in _LOOKED_INTO and members.inventory is not None:
            of_source[members.data.images].append(members)
    hashes = {images: _hashes(group) for images, group in of_source.items()}
    for group in of_source.values():
        for members in group:
            if told := _told(members, hashes[members.data.images]):
                yield Note(members.split, told)
    for view in views:
        looked_at = [m for m in view if m.split in _LOOKED_INTO and m.inventory is not None]
        for one, other in combinations(looked_at, 2):
            if told := _shared(one, other, hashes):
                yield Note(other.split, told)


def _shared(one: Members, other: Members, hashes: dict[str, dict[str, bytes]]) -> str:
    """Say which pictures of a split stand in an earlier one under another id; "" if none does."""
    here, there = (
        {hashed: i for i, hashed in hashes[m.data.images].items() if i in m.label_of}
        for m in (one, other)
    )
    same = one.data.images == other.data.images  # then `overlaps` tells of equal ids
    both = [h for h in here.keys() & there.keys() if not (same and here[h] == there[h])]
    common = sorted(both, key=lambda hashed: there[hashed])
    if not common:
        return ""
    first = common[0]
    return (
        f"{len(common):,} pictures of {len(there):,} that were looked at are in {one.split} too, "
        f"such as {there[first]!r}, which is {here[first]!r} there: figures on seen pictures prove "
        "nothing, so leave them out of one of the two"
    )


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
