"""Remember which pictures must never enter the store again, without keeping anything of them.

What is kept is a digest of a content's hash: it recognises the picture when it comes again, and
tells nobody who has not got it which one it was.
"""

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from dcd.errors import ObjectNotFound
from dcd.store import keys
from dcd.store.object_store import Store
from dcd.store.requests import METADATA_MISSED

LOOK = METADATA_MISSED  # what `forgotten_marks` sends where nothing was ever forgotten
REASON = "was forgotten at somebody's request"
_PERSON = b"dcd-forgotten"


def mark_of(content_hash: bytes) -> str:
    """Return the mark of a picture by its content hash: hex."""
    return hashlib.blake2b(content_hash, digest_size=16, person=_PERSON).hexdigest()


def forgotten_marks(store: Store) -> frozenset[str]:
    """Read the marks of all pictures that must stay away."""
    try:
        return frozenset(store.read_table(keys.FORGOTTEN_MARKS)["mark"].to_pylist())
    except ObjectNotFound:
        return frozenset()


def block(store: Store, content_hashes: Iterable[bytes]) -> None:
    """Keep these pictures away from now on."""
    marks = forgotten_marks(store) | {mark_of(one) for one in content_hashes}
    store.write_table(keys.FORGOTTEN_MARKS, pa.table({"mark": sorted(marks)}))
