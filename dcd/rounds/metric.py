"""Draw the figure of a goal from predictions on debug_val."""

import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import GoalConfig
from dcd.errors import DataError
from dcd.gate.guards import command_fault, number_of


def goal_metric(goal: GoalConfig, predictions: pa.Table) -> float:
    """Return the figure of a goal for one model and seed.

    predictions: schemas.PREDICTIONS of debug_val. Raises DataError for a class that is not there,
    and for a command that may not run, fails or prints no number.
    """
    right = pc.equal(predictions["label"], predictions["predicted"]).to_numpy()
    labels = np.array(predictions["label"].to_pylist())
    match goal.metric:
        case "accuracy":
            return float(right.mean())
        case "balanced_accuracy":
            return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))
        case "recall":
            of_label = labels == goal.label
            if not of_label.any():
                raise DataError(f"goal.label: debug_val has no image of {goal.label!r}")
            return float(right[of_label].mean())
        case "command":
            return _by_command(goal, predictions)


def _by_command(goal: GoalConfig, predictions: pa.Table) -> float:
    guard = goal.as_guard
    assert guard is not None
    if fault := command_fault(guard):
        raise DataError(f"goal.command: {fault}")
    try:
        return number_of(guard, predictions)
    except (OSError, ValueError, subprocess.SubprocessError) as err:
        raise DataError(f"goal.command could not be asked: {err}") from err
