"""Estimate how the labels of a pool are wrong, once for an index and a train set, and keep it."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.info import IndexInfo, of_given_labels
from dcd.index.read import shared_sample
from dcd.label_noise.noise_matrix import NoiseMatrix, RightShare, estimate_noise
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import without
from dcd.tables.vectors import embedding_matrix

# Raised whenever the same pool and train would get another matrix.
_NOISE_FORMAT = 2
_one_at_a_time = threading.Lock()  # cells of one run want the same


def pool_noise(
    store: Store, index: IndexInfo, train: SplitInfo, classes: tuple[str, ...]
) -> NoiseMatrix:
    """Return the noise of the pool's labels among `classes`, those of train; see `estimate_noise`.

    Images of train that are in the pool too do not count: the guessing classifiers know them. Nor
    do pseudo-labels, which were found by such a classifier and would agree with it.
    """
    index = of_given_labels(store, index)
    key = _key(index, train)
    with _one_at_a_time:
        if not store.exists(key):
            known = split_table(store, train)
            fresh = without(shared_sample(store, index), known)
            rows = fresh.filter(pc.is_in(fresh["weak_label"], value_set=pa.array(classes)))
            found = estimate_noise(
                embedding_matrix(known),
                known["label"].to_pylist(),
                embedding_matrix(rows),
                pc.index_in(rows["weak_label"], value_set=pa.array(classes)).to_numpy(),
                classes,
            )
            right = found.right
            described = {"right_share": repr(right.value)}
            described |= {"right_low": repr(right.low), "right_high": repr(right.high)}
            store.write_table(key, noise_table(found), metadata=described)
    return noise_of(store.read_table(key), classes, _share(store, key))


def right_share(store: Store, index: IndexInfo, train: SplitInfo) -> RightShare | None:
    """Return the estimated share of right labels in the pool, 0…1; None if nobody estimated it."""
    key = _key(of_given_labels(store, index), train)
    return _share(store, key) if store.exists(key) else None


def noise_table(noise: NoiseMatrix) -> pa.Table:
    """Make schemas.NOISE: a row for each class and label."""
    n = len(noise.classes)
    columns = [
        pa.array(np.repeat(noise.classes, n)),
        pa.array(np.tile(noise.classes, n)),
        pa.array(noise.matrix.ravel()),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.NOISE)


def noise_of(table: pa.Table, classes: tuple[str, ...], right: RightShare) -> NoiseMatrix:
    """Invert `noise_table`."""
    table = schemas.conform(table, schemas.NOISE, "noise")
    n = len(classes)
    return NoiseMatrix(classes, table["probability"].to_numpy().reshape(n, n), right)


def _key(index: IndexInfo, train: SplitInfo) -> str:
    return keys.noise(keys.digest("noise", _NOISE_FORMAT, index.index_id, train.id))


def _share(store: Store, key: str) -> RightShare:
    kept = store.read_metadata(key)
    return RightShare(*(float(kept[name]) for name in ("right_share", "right_low", "right_high")))
