"""How far the labels of what is added to train are to be believed: `LabelDoubt` from the store."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.agreement import as_classes, neighbor_labels
from dcd.index import IndexInfo, vectors_of
from dcd.label_noise import LabelDoubt, joined
from dcd.pool_agreement import pool_reference
from dcd.pool_noise import pool_noise
from dcd.stages import SplitInfo
from dcd.store import Store
from dcd.training_config import TrainingConfig


def doubt_of_picks(
    store: Store,
    index: IndexInfo,
    from_pool: pa.Table,
    n_certain: int,
    train: SplitInfo,
    classes: tuple[str, ...],
    config: TrainingConfig,
) -> LabelDoubt:
    """The picks `from_pool` (schemas.PICKS), in their order, then n_certain images of true label.

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


def in_order_of(picks: pa.Table, table: pa.Table) -> pa.Table:
    """The row of `table` for every pick, by image_id."""
    return table.take(pc.index_in(picks["image_id"], value_set=table["image_id"].combine_chunks()))
