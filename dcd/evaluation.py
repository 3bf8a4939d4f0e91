"""Per-image predictions and the accuracies drawn from them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import schemas
from dcd.stats import bootstrap_mean
from dcd.training import LinearHead, probabilities


@dataclass(frozen=True)
class Predicted:
    """What a model says of N images: the likeliest label and its probability, (N,) float32."""

    labels: list[str]
    confidence: np.ndarray


def likeliest(probability: np.ndarray, classes: tuple[str, ...]) -> Predicted:
    """The top class of each row of (N, C) probabilities; the first class wins a tie."""
    top = probability.argmax(axis=1)
    confidence = probability[np.arange(len(top)), top].astype(np.float32)
    return Predicted([classes[i] for i in top], confidence)


def predict(head: LinearHead, features: np.ndarray) -> Predicted:
    """Predictions of a head on raw features (N, D)."""
    return likeliest(probabilities(head, features), head.classes)


def predictions_table(
    model: str, seed: int, split: str, data: pa.Table, predicted: Predicted
) -> pa.Table:
    """schemas.PREDICTIONS for the rows of `data` (image_id, label, mode), in their order."""
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


def metrics_table(predictions: pa.Table, n_picks: int, label_precision: float | None) -> pa.Table:
    """Accuracies of schemas.PREDICTIONS as schemas.METRICS, as shares of 1, with 95 % intervals.

    One row for each (model, seed, split) over all images (mode null), then one for each mode.
    """
    keys = ["model", "seed", "split", "mode"]
    correct = pc.equal(predictions["label"], predictions["predicted"])
    outcomes = predictions.select(keys).append_column("correct", correct)
    everywhere = outcomes.set_column(3, "mode", pa.nulls(outcomes.num_rows, pa.string()))
    by_mode = outcomes.filter(outcomes["mode"].is_valid())
    groups = (
        pa.concat_tables([everywhere, by_mode])
        .group_by(keys, use_threads=False)
        .aggregate([("correct", "list")])
        .sort_by([(k, "ascending") for k in keys])
    )
    rows = []
    for group in groups.to_pylist():
        outcomes_of_group = np.array(group.pop("correct_list"))
        interval = bootstrap_mean(outcomes_of_group)
        rows.append(
            {
                **group,
                "metric": "accuracy",
                "value": interval.value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n": len(outcomes_of_group),
                "n_picks": n_picks,
                "label_precision": label_precision,
            }
        )
    return pa.Table.from_pylist(rows, schemas.METRICS)
