"""Find the near copies of judging images in a pool's sample: once an index and splits."""

from collections.abc import Callable, Sequence

import pyarrow as pa

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
    key = keys.pool_copies(
        index.pool,
        index.encoder_id,
        index.index_id,
        keys.digest(_FORMAT, *depends_on),
    )
    if not store.exists(key):
        sample = shared_sample(store, index)
        copies: list[str | None] = []
        for start in range(0, sample.num_rows, _ROWS):
            copies += near_copies(sample.slice(start, _ROWS), guarded())
        column = pa.array(copies, pa.string())
        store.write_table(key, sample.select(_COLUMNS).append_column("copy_of", column))
    return store.read_table(key)
