"""Say how far the labels of what is added to train are to be believed: `LabelDoubt`."""

import numpy as np
import pyarrow as pa

from dcd.config import TrainingConfig
from dcd.index.info import IndexInfo
from dcd.index.read import vectors_of
from dcd.label_noise.agreement import as_classes, neighbor_labels
from dcd.label_noise.pool_agreement import pool_reference
from dcd.label_noise.pool_noise import pool_noise
from dcd.splits.split import SplitInfo
from dcd.store import Store
from dcd.tables.rows import in_order_of
from dcd.training.losses import LabelDoubt, joined


def doubt_of_picks(
    store: Store,
    index: IndexInfo,
    from_pool: pa.Table,
    n_certain: int,
    train: SplitInfo,
    classes: tuple[str, ...],
    config: TrainingConfig,
) -> LabelDoubt:
    """Return the doubt of pool images, then of images whose label is true.

    The first are the picks `from_pool` (schemas.PICKS), in their order; the others are n_certain.

    Neighbours are looked for in the pool's sample, and only if `config` asks for soft labels by
    agreement. Their labels outside `classes` do not vote. The noise of the pool's labels is
    estimated only for the forward correction.
    """
    n = from_pool.num_rows
    noise = None
    if config.loss == "forward" and n:
        noise = pool_noise(store, index, train, classes).matrix
    votes = np.empty((n, 0), np.int64)
    if config.soft_labels == "agreement" and n:
        labels = from_pool["label"].combine_chunks()
        found = vectors_of(store, index, from_pool["image_id"], labels)
        rows = in_order_of(from_pool, found)
        reference = pool_reference(store, index)
        votes = as_classes(neighbor_labels(reference, rows), reference.classes, classes)
    return joined([LabelDoubt(np.ones(n, bool), votes, noise), LabelDoubt.none(n_certain)])
