"""Say in a store which format it has, so that an older dcd refuses what it would misread.

The number is raised when objects come that earlier versions would read wrongly; new kinds of
objects, which they pass over, do not raise it. Objects of every lower format are read.
"""

import logging
from dataclasses import dataclass

from dcd import __version__
from dcd.errors import ObjectNotFound, ObjectUnreadable, StoreError
from dcd.store import keys
from dcd.store.object_store import Store

log = logging.getLogger(__name__)
FORMAT = 2
NOTES = {
    1: "objects without checksums; the store does not say its format",
    2: "every object has a checksum",
}


@dataclass(frozen=True)
class StoreFormat:
    """The format of a store, what it is, and the version of dcd that said so."""

    format: int
    note: str
    written_by: str


def open_store(url: str) -> Store:
    """Open a store whose format this version knows.

    Args:
        url: a folder or `s3://bucket/prefix`; it need not be there yet.

    Raises:
        StoreError: a newer version wrote the store, or it cannot be reached.
    """
    store = Store(url)
    _refuse_newer(store, read_format(store))
    return store


def open_for_writing(url: str) -> Store:
    """Open a store as `open_store` does, and note the format that it has from now on."""
    store = Store(url)
    found = read_format(store)
    _refuse_newer(store, found)
    if found is None or found.format < FORMAT:
        document = {"format": FORMAT, "note": NOTES[FORMAT], "written_by": f"dcd {__version__}"}
        store.write_json(keys.STORE_FORMAT, document)
    return store


def read_format(store: Store) -> StoreFormat | None:
    """Read what a store says of its format; None where it says nothing, as of format 1.

    A damaged note counts as none: it is written anew, and each object has its own checksum.
    """
    try:
        document = store.read_json(keys.STORE_FORMAT)
        number, note, by = document["format"], document["note"], document["written_by"]
        return StoreFormat(int(number), str(note), str(by))
    except ObjectNotFound:
        return None
    except (ObjectUnreadable, KeyError, TypeError, ValueError) as err:
        log.warning("%s: not read, and written anew (%s)", store.uri(keys.STORE_FORMAT), err)
        return None


def _refuse_newer(store: Store, found: StoreFormat | None) -> None:
    if found is not None and found.format > FORMAT:
        raise StoreError(
            f"{store.url}: has format {found.format} ({found.note[:200]}), written by "
            f"{found.written_by[:50]}; this is dcd {__version__}, which reads formats up to "
            f"{FORMAT}. Update it (pip install --upgrade data-centric-debugging), or name another "
            "store"
        )
