import sys

import pyarrow as pa
import pytest

from dcd.config import GoalConfig
from dcd.errors import DataError
from dcd.gate.guards import ALLOWED
from dcd.rounds.metric import goal_metric
from dcd.tables import schemas

# Cats: 3 of 4 right; dogs: 1 of 2; a bird: wrong.
_ANSWERS = [("cat", "cat")] * 3 + [("cat", "dog"), ("dog", "dog"), ("dog", "cat"), ("bird", "cat")]


def predictions() -> pa.Table:
    common = {"model": "m", "seed": 0, "split": "debug_val", "confidence": 0.5, "mode": None}
    rows = [
        {**common, "image_id": str(i), "label": label, "predicted": predicted}
        for i, (label, predicted) in enumerate(_ANSWERS)
    ]
    return pa.Table.from_pylist(rows, schemas.PREDICTIONS)


def goal(**settings: object) -> GoalConfig:
    return GoalConfig.model_validate({"target": 0.9, "budget": 100, **settings})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metric": "accuracy"}, 4 / 7),
        ({"metric": "balanced_accuracy"}, (3 / 4 + 1 / 2 + 0) / 3),
        ({"metric": "recall", "label": "dog"}, 1 / 2),
        ({"metric": "recall", "label": "bird"}, 0),
    ],
)
def test_a_figure_is_what_one_counts_by_hand(settings, expected):
    assert goal_metric(goal(**settings), predictions()) == pytest.approx(expected)


def test_a_class_that_debug_val_lacks_is_an_error_that_names_it():
    with pytest.raises(DataError, match="'cow'"):
        goal_metric(goal(metric="recall", label="cow"), predictions())


def test_a_command_reads_the_predictions_and_runs_only_where_it_may(monkeypatch):
    counts = "import sys; print(sum(1 for _ in open(sys.argv[1])) - 1)"
    asks = goal(metric="command", command=[sys.executable, "-c", counts], target=5)
    monkeypatch.delenv(ALLOWED, raising=False)
    with pytest.raises(DataError, match=ALLOWED):
        goal_metric(asks, predictions())
    monkeypatch.setenv(ALLOWED, "allow")
    assert goal_metric(asks, predictions()) == len(_ANSWERS)
    fails = goal(metric="command", command=[sys.executable, "-c", "print('no')"], target=5)
    with pytest.raises(DataError, match="no number"):
        goal_metric(fails, predictions())
