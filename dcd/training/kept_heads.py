"""Read heads that were fitted before instead of fitting them again.

What a head is fitted to does not change with the splits that it is judged on: new failures leave
`none`, `whole_pool` and `filtered_pool` as they are, and only what they predict is new.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import from_blobs, to_blobs
from dcd.training.head import LinearHead


def kept_head(store: Store, head_id: str, fit: Callable[[], LinearHead]) -> LinearHead:
    """Return what `fit` gives, called only where no head of that id is kept."""
    key = keys.head(head_id)
    if not store.exists(key):
        store.write_table(key, head_table(fit()))
    return head_of(store.read_table(key))


def head_table(head: LinearHead) -> pa.Table:
    """Make schemas.HEAD: a row for each class."""
    weight = to_blobs(head.weight).cast(pa.binary())
    columns = [pa.array(head.classes), weight, pa.array(head.bias)]
    return pa.Table.from_arrays(columns, schema=schemas.HEAD)


def head_of(table: pa.Table) -> LinearHead:
    """Invert `head_table`."""
    table = schemas.conform(table, schemas.HEAD, "head")
    blobs = table["weight"].combine_chunks()
    weight = from_blobs(blobs, np.float32, len(blobs[0].as_py()))
    # Copies, because torch warns of arrays that cannot be written to.
    bias = table["bias"].to_numpy().copy()
    return LinearHead(tuple(table["class"].to_pylist()), weight.copy(), bias)
