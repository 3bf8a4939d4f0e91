import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import SchemaMismatch
from dcd.evaluation.metrics import metrics_table, predictions_table
from dcd.tables import schemas
from dcd.training.head import LinearHead, Predictions, predict


def _data(labels: list[str], modes: list[str | None]) -> pa.Table:
    n = len(labels)
    return pa.table(
        {
            "image_id": [f"image {i}" for i in range(n)],
            "label": labels,
            "mode": pa.array(modes, pa.string()),
            "content_hash": pa.array([bytes([i]) * 16 for i in range(n)], schemas.CONTENT_HASH),
        }
    )


def test_predict_names_the_likeliest_class():
    head = LinearHead(
        ("cat", "dog"), np.array([[1.0], [-1.0]], np.float32), np.zeros(2, np.float32)
    )
    found = predict(head, np.array([[2.0], [-0.5]], np.float32))
    assert found.labels == ["cat", "dog"]
    np.testing.assert_allclose(found.confidence, 1 / (1 + np.exp([-4.0, -1.0])), rtol=1e-6)


def test_metrics_count_every_image_over_all_and_by_mode():
    data = _data(["a", "a", "b", "b", "b"], ["m1", "m1", "m2", None, "m2"])
    predicted = Predictions(["a", "b", "b", "b", "a"], np.full(5, 0.9, np.float32))
    predictions = predictions_table("selected", 7, "debug_heldout", data, predicted)
    assert predictions.schema.equals(schemas.PREDICTIONS)

    metrics = metrics_table(predictions, n_picks=12, label_precision=None)
    assert metrics.schema.equals(schemas.METRICS)
    rows = {row["mode"]: row for row in metrics.to_pylist()}
    assert {mode: (row["value"], row["n"]) for mode, row in rows.items()} == {
        None: (0.6, 5),
        "m1": (0.5, 2),
        "m2": (0.5, 2),
    }
    assert rows[None]["ci_low"] == pytest.approx(0.2)
    assert rows[None]["ci_high"] == pytest.approx(1.0)
    assert {row["n_picks"] for row in rows.values()} == {12}


def test_metrics_keep_models_seeds_and_splits_apart():
    predicted = Predictions(["a"], np.ones(1, np.float32))
    tables = [
        predictions_table(model, seed, split, _data([truth], [None]), predicted)
        for model, seed, split, truth in [
            ("none", 0, "test", "a"),
            ("none", 1, "test", "b"),
            ("none", 0, "debug_heldout", "b"),
            ("selected", 0, "test", "a"),
        ]
    ]
    metrics = metrics_table(pa.concat_tables(tables), 0, 1.0).to_pylist()
    assert [(r["model"], r["seed"], r["split"], r["value"]) for r in metrics] == [
        ("none", 0, "debug_heldout", 0.0),
        ("none", 0, "test", 1.0),
        ("none", 1, "test", 0.0),
        ("selected", 0, "test", 1.0),
    ]


def test_a_split_without_labels_is_refused():
    data = _data(["a"], [None]).set_column(1, "label", pa.array([None], pa.string()))
    with pytest.raises(SchemaMismatch, match="predictions of none on test"):
        predictions_table("none", 0, "test", data, Predictions(["a"], np.ones(1, np.float32)))
