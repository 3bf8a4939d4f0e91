"""Read what a finished cell answered, under the name that a run or a comparison gives it."""

import pyarrow as pa

from dcd.evaluation.metrics import label_precision, metrics_table
from dcd.store import Store, keys


def cell_predictions(store: Store, cell_id: str, name: str) -> pa.Table:
    """Read schemas.PREDICTIONS of a cell, `model` being `name`.

    Two methods with the same settings share a cell, which is kept under the name of the first.
    """
    table = store.read_table(keys.cell_predictions(cell_id))
    return table.set_column(0, "model", pa.repeat(name, table.num_rows))


def cell_metrics(
    store: Store, cell_id: str, predictions: pa.Table, truth: pa.Table | None
) -> pa.Table:
    """Compute the metrics of a cell from its predictions and picks, over all images and by mode.

    truth: image_id, label, the pool's true labels where they are known.
    """
    picks = store.read_table(keys.cell_picks(cell_id))
    return metrics_table(predictions, picks.num_rows, label_precision(picks, truth))
