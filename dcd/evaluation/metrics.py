"""Make tables of predictions, image by image, and draw accuracies from them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.evaluation.bursts import Groups
from dcd.evaluation.stats import bootstrap_mean
from dcd.tables import schemas
from dcd.training.head import Predictions


def label_precision(picks: pa.Table, true_labels: pa.Table | None) -> float | None:
    """Return the share of picks whose label is right; None without picks or without true labels.

    Error-sample labels are true by definition. true_labels: image_id, label.
    """
    from_pool = picks.filter(pc.equal(picks["source"], "pool"))
    if picks.num_rows == 0 or (true_labels is None and from_pool.num_rows):
        return None
    n_right = picks.num_rows - from_pool.num_rows
    if true_labels is not None and from_pool.num_rows:
        truth = true_labels["label"].take(
            pc.index_in(from_pool["image_id"], value_set=true_labels["image_id"].combine_chunks())
        )
        known = pc.is_valid(truth)
        if not pc.all(known).as_py():
            return None
        n_right += pc.sum(pc.equal(truth, from_pool["label"])).as_py()
    return n_right / picks.num_rows


def predictions_table(
    model: str, seed: int, split: str, data: pa.Table, predicted: Predictions
) -> pa.Table:
    """Make schemas.PREDICTIONS for the rows of `data` (image_id, label, mode), in their order."""
    n = data.num_rows
    table = pa.table(
        {
            "model": pa.repeat(model, n),
            "seed": pa.repeat(pa.scalar(seed, pa.int64()), n),
            "split": pa.repeat(split, n),
            "image_id": data["image_id"],
            "label": data["label"],
            "predicted": pa.array(predicted.labels, pa.string()),
            "confidence": pa.array(predicted.confidence, pa.float32()),
            "mode": data["mode"],
        }
    )
    return schemas.conform(table, schemas.PREDICTIONS, f"predictions of {model} on {split}")


def group_numbers(predictions: pa.Table) -> Groups:
    """Number the groups that images belong to, (N,) int; None where all stand alone.

    predictions: image_id and perhaps `group`; an image without one stands alone.
    """
    if "group" not in predictions.column_names:
        return None
    named = predictions["group"].combine_chunks()
    if named.null_count == len(named):
        return None
    encoded = named.dictionary_encode()
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(numbers < 0, len(encoded.dictionary) + np.arange(len(numbers)), numbers)


def metrics_table(predictions: pa.Table, n_picks: int, label_precision: float | None) -> pa.Table:
    """Turn schemas.PREDICTIONS into schemas.METRICS: shares of 1, with 95 % intervals.

    One row for each (model, seed, split) over all images (mode null), then one for each mode. A
    column `group` names the images that belong together.
    """
    keys = ["model", "seed", "split", "mode"]
    correct = pc.equal(predictions["label"], predictions["predicted"])
    groups = group_numbers(predictions)
    alone = np.arange(predictions.num_rows) if groups is None else groups
    outcomes = predictions.select(keys).append_column("correct", correct)
    outcomes = outcomes.append_column("group", pa.array(alone))
    everywhere = outcomes.set_column(3, "mode", pa.nulls(outcomes.num_rows, pa.string()))
    by_mode = outcomes.filter(outcomes["mode"].is_valid())
    groups = (
        pa.concat_tables([everywhere, by_mode])
        .group_by(keys, use_threads=False)
        .aggregate([("correct", "list"), ("group", "list")])
        .sort_by([(k, "ascending") for k in keys])
    )
    rows = []
    for group in groups.to_pylist():
        right, together = (np.array(group.pop(f"{name}_list")) for name in ("correct", "group"))
        interval = bootstrap_mean(right, groups=None if groups is None else together)
        rows.append(
            {
                **group,
                "metric": "accuracy",
                "value": interval.value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n": len(right),
                "n_picks": n_picks,
                "label_precision": label_precision,
            }
        )
    return pa.Table.from_pylist(rows, schemas.METRICS)
