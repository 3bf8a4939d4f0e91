"""Find the near copies of judging images in a pool's sample: once an index and splits."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.info import IndexInfo
from dcd.index.read import shared_sample
from dcd.selection.leaks import Guard, near_copies
from dcd.store import Store, keys

# Raised whenever the same index, splits and distance would give other rows.
_FORMAT = 1
_ROWS = 10_000  # compared at once: bounds memory
_COLUMNS = ["image_id", "weak_label", "shard", "content_hash"]


def pool_copies(
    store: Store, index: IndexInfo, depends_on: Sequence[object], guarded: Callable[[], Guard]
) -> pa.Table:
    """Return the sample's image_id, weak_label, shard, content_hash, copy_of, in its order.

    depends_on: what decides about `guarded()`, which is called only if nobody has asked before.
    copy_of: the split, or null. The failures have no part in this, so a rerun for new ones reads
    neither vectors nor the judging images.
    """
    key = _key(index, depends_on)
    if not store.exists(key):
        sample = shared_sample(store, index)
        copies: list[str | None] = []
        for start in range(0, sample.num_rows, _ROWS):
            copies += near_copies(sample.slice(start, _ROWS), guarded())
        column = pa.array(copies, pa.string())
        store.write_table(key, sample.select(_COLUMNS).append_column("copy_of", column))
    return store.read_table(key)


def copies_of(
    store: Store,
    index: IndexInfo,
    depends_on: Sequence[object],
    guarded: Callable[[], Guard],
    rows: pa.Table,
) -> list[str | None]:
    """Name the split that each row (content_hash, embedding) is a near copy of, else None.

    Of the sample's images `pool_copies` tells it, where somebody has asked for them; `guarded()`,
    which takes a second to prepare for 10,000 images, is called for others alone.
    """
    key = _key(index, depends_on)
    if not store.exists(key):
        return near_copies(rows, guarded())
    known = store.read_table(key, ["content_hash", "copy_of"])
    at = pc.index_in(rows["content_hash"], value_set=known["content_hash"].combine_chunks())
    found = known["copy_of"].take(at).to_pylist()
    missing = np.flatnonzero(at.is_null().to_numpy())
    if len(missing):
        others = near_copies(rows.take(pa.array(missing)), guarded())
        for i, split in zip(missing.tolist(), others, strict=True):
            found[i] = split
    return found


def _key(index: IndexInfo, depends_on: Sequence[object]) -> str:
    which = keys.digest(_FORMAT, *depends_on)
    return keys.pool_copies(index.pool, index.encoder_id, index.index_id, which)
