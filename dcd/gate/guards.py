"""Ask what else must not get worse: guards can only hold a candidate back, never let one pass.

So they leave the level of the gate's tests as it is.
"""

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from dcd.config import BalancedAccuracyGuard, CommandGuard, GuardConfig, RecallGuard
from dcd.evaluation.bursts import Groups, group_sums
from dcd.gate.pairs import Pairs, paired, rows_of
from dcd.scratch import scratch_folder

ALLOWED = "DCD_GUARD_COMMANDS"
_MAX_CLASSES_NAMED = 5
_COLUMNS = ["image_id", "label", "predicted", "confidence", "mode"]


@dataclass(frozen=True)
class GuardAnswer:
    """What a guard said: its name, whether it lets the candidate pass, and why in a sentence."""

    name: str
    passed: bool
    reason: str


def ask_guards(
    guards: Sequence[GuardConfig], champion: pa.Table, candidate: pa.Table, level: float
) -> tuple[GuardAnswer, ...]:
    """Ask every guard about two models' predictions, as `dcd.gate.decision.decide` takes them."""
    answers = []
    for guard in guards:
        match guard:
            case BalancedAccuracyGuard():
                answers.append(
                    _balanced_accuracy(guard, paired(champion, candidate, guard.split), level)
                )
            case RecallGuard():
                answers.append(_recall(guard, paired(champion, candidate, guard.split)))
            case CommandGuard():
                answers.append(_command(guard, champion, candidate))
    return tuple(answers)


def command_fault(guard: CommandGuard) -> str | None:
    """Say why a guard's command cannot run here; None if it can be tried."""
    if os.environ.get(ALLOWED) != "allow":
        return (
            f"{guard.name}: commands of guards run only where {ALLOWED}=allow stands in the "
            "environment; set it there, or remove the guard"
        )
    if shutil.which(guard.command[0]) is None:
        return (
            f"{guard.name}: there is no program {guard.command[0]!r}; install it or name its path"
        )
    return None


def _balanced_accuracy(guard: BalancedAccuracyGuard, pairs: Pairs, level: float) -> GuardAnswer:
    value, error = balanced_difference(pairs.changes, pairs.labels, pairs.groups)
    bound = value - NormalDist().inv_cdf(1 - level) * error
    passed = bound > -guard.margin_points / 100
    said = "within" if passed else "not within"
    return GuardAnswer(
        f"balanced accuracy on {guard.split}",
        passed,
        f"Balanced accuracy on {guard.split} changed by {100 * value:+.2f} points; "
        f"{100 * (1 - level):.3g} % sure to have lost less than {max(0.0, -100 * bound):.2f}, "
        f"{said} the margin of {guard.margin_points:g}.",
    )


def balanced_difference(
    changes: np.ndarray, labels: np.ndarray, groups: Groups
) -> tuple[float, float]:
    """Return the change of the classes' mean recall and its standard error, as shares.

    changes: (N,) in -1, 0, 1. groups: which images belong together; the error is that of sums of
    whole groups (the linearised estimator of a mean of ratios: Cochran 1977, ch. 6).
    """
    classes, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    of_class = np.bincount(index, weights=changes) / sizes
    parts = (changes - of_class[index]) / (len(classes) * sizes[index])
    sums = group_sums(parts, groups)
    correction = len(sums) / max(1, len(sums) - 1)
    return float(of_class.mean()), math.sqrt(float(sums @ sums) * correction)


def _recall(guard: RecallGuard, pairs: Pairs) -> GuardAnswer:
    below = []
    for label in np.unique(pairs.labels):
        of_class = pairs.labels == label
        recall = float(pairs.candidate[of_class].mean())
        if recall < guard.min_recall:
            below.append((recall, f"{label} ({100 * recall:.1f} % of {of_class.sum():,})"))
    named = ", ".join(words for _, words in sorted(below)[:_MAX_CLASSES_NAMED])
    floor = f"the floor of {100 * guard.min_recall:g} %"
    reason = f"Every class's recall on {guard.split} reaches {floor}."
    if below:
        more = f" and {len(below) - _MAX_CLASSES_NAMED} more" * (len(below) > _MAX_CLASSES_NAMED)
        reason = f"Recall on {guard.split} is below {floor} for {named}{more}."
    return GuardAnswer(f"recall on {guard.split}", not below, reason)


def _command(guard: CommandGuard, champion: pa.Table, candidate: pa.Table) -> GuardAnswer:
    fault = command_fault(guard)
    if fault is not None:
        return GuardAnswer(guard.name, False, f"{fault}.")
    try:
        before, after = (number_of(guard, rows_of(t, guard.split)) for t in (champion, candidate))
    except (OSError, ValueError, subprocess.SubprocessError) as err:
        return GuardAnswer(guard.name, False, f"{guard.name} could not be asked: {err}.")
    passed = after >= before - guard.max_loss
    return GuardAnswer(
        guard.name,
        passed,
        f"{guard.name} on {guard.split} went from {before:g} to {after:g}; "
        f"{'no more' if passed else 'more'} than {guard.max_loss:g} was lost.",
    )


def number_of(guard: CommandGuard, predictions: pa.Table) -> float:
    """Ask a guard's command about predictions (schemas.PREDICTIONS, of one model, seed and split).

    Raises ValueError if the command fails or its last line is no number, OSError and
    SubprocessError where it could not run to its end.
    """
    with scratch_folder("guard") as folder:
        path = folder / "predictions.csv"
        pacsv.write_csv(predictions.select(_COLUMNS), path)
        done = subprocess.run(
            [*guard.command, str(path)],
            capture_output=True,
            text=True,
            timeout=guard.timeout_s,
            check=False,
        )
    if done.returncode:
        raise ValueError(f"it ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    lines = done.stdout.strip().splitlines()
    try:
        number = float(lines[-1])
    except (IndexError, ValueError) as err:
        raise ValueError(f"its last line is no number: {(lines or [''])[-1][:100]!r}") from err
    if not math.isfinite(number):
        raise ValueError(f"it printed {number}, which cannot be compared")
    return number
