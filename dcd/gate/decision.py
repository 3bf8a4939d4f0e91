"""Decide whether a candidate replaces the champion: only if nothing got worse.

Two tests on the same images, by default both at 95 %: on `test` the candidate must be non-inferior
within a margin; on `debug_val` it must be better. A candidate that is merely different passes the
second test, and so the gate, with probability at most 5 %. Images that belong together, such as
frames of one burst, count as such.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.config import GuardConfig
from dcd.errors import DataError
from dcd.evaluation.bursts import effective_n, sign_flip
from dcd.evaluation.stats import (
    PairedCounts,
    images_for_improvement,
    images_for_non_inferiority,
    lower_bound,
    non_inferiority,
)
from dcd.gate.guards import GuardAnswer, ask_guards
from dcd.gate.pairs import Pairs, paired

LEVEL = 0.05
_MAX_CLASSES_NAMED = 3


@dataclass(frozen=True)
class PairedTest:
    """One test: counts on the same images, one-sided p-value, and whether it was passed."""

    counts: PairedCounts
    p_value: float
    passed: bool


@dataclass(frozen=True)
class ClassChange:
    """Accuracy of a class on test, before and after, over its n images."""

    label: str
    n: int
    champion: float
    candidate: float

    @property
    def difference(self) -> float:
        return self.candidate - self.champion


@dataclass(frozen=True)
class Decision:
    """The gate's answer. `reasons` are whole sentences; `classes` go from the worst change up."""

    promoted: bool
    test: PairedTest
    debug_val: PairedTest
    classes: tuple[ClassChange, ...]
    reasons: tuple[str, ...]
    guards: tuple[GuardAnswer, ...] = ()


def decide(
    champion: pa.Table,
    candidate: pa.Table,
    margin: float = 0.005,
    level: float = LEVEL,
    guards: Sequence[GuardConfig] = (),
    n_chosen_among: int = 1,
) -> Decision:
    """Compare two models' predictions (schemas.PREDICTIONS, one model and seed each).

    Both hold the splits test and debug_val; others are ignored, so debug_heldout plays no part. The
    candidate's `group`, if it has such a column, names the images that belong together.
    margin: how much test accuracy may be lost, as a share. level: of each of the two tests.
    guards: what else must not get worse. n_chosen_among: models of which debug_val has picked the
    candidate; there it is tested at level / n_chosen_among. Raises DataError if a split is
    empty or the two models were not evaluated on the same images with the same labels.
    """
    if not 0 < margin < 1:
        raise DataError(f"gate: the margin is a share of 1 above 0, found {margin}; try 0.005")
    on_test = paired(champion, candidate, "test")
    on_val = paired(champion, candidate, "debug_val")
    test_counts, val_counts = on_test.counts, on_val.counts
    p_inferior = non_inferiority(test_counts, margin)
    p_no_better = sign_flip(on_val.changes, on_val.groups)
    test = PairedTest(test_counts, p_inferior, p_inferior <= level)
    of_each = level / n_chosen_among  # Bonferroni: however the models depend on each other
    debug_val = PairedTest(val_counts, p_no_better, p_no_better <= of_each)
    classes = _class_changes(on_test)
    answers = ask_guards(guards, champion, candidate, level)
    reasons = (
        _test_reason(test, margin, level),
        *_class_reason(test, classes),
        _val_reason(debug_val, on_val.groups is not None, of_each),
        *_burst_reasons({"test": on_test, "debug_val": on_val}),
        *(answer.reason for answer in answers),
    )
    passed = test.passed and debug_val.passed and all(answer.passed for answer in answers)
    return Decision(passed, test, debug_val, classes, reasons, answers)


def _class_changes(pairs: Pairs) -> tuple[ClassChange, ...]:
    changes = []
    for label in np.unique(pairs.labels):
        of_class = pairs.labels == label
        changes.append(
            ClassChange(
                str(label),
                int(of_class.sum()),
                float(pairs.champion[of_class].mean()),
                float(pairs.candidate[of_class].mean()),
            )
        )
    return tuple(sorted(changes, key=lambda change: change.difference * change.n))


def _test_reason(test: PairedTest, margin: float, level: float) -> str:
    counts = test.counts
    sure = 1 - level
    changed = (
        f"Test accuracy changed by {_points(counts.difference)} on {counts.n} images "
        f"({counts.gained} newly right, {counts.lost} newly wrong)"
    )
    bound = f"{100 * sure:.3g} % sure to have lost less than {_lost(lower_bound(counts, sure))}"
    if test.passed:
        return f"{changed}: {bound}, within the margin of {100 * margin:g}."
    if -counts.difference >= margin:
        return f"{changed}: more is lost than the margin of {100 * margin:g} points allows."
    needed = images_for_non_inferiority(counts, margin, level)
    assert needed is not None
    smallest = math.ceil(-1e4 * lower_bound(counts, sure)) / 100
    return (
        f"{changed}: it is only {bound}, and the margin is {100 * margin:g}. These images would "
        f"have passed at a margin of {smallest:.2f}; if the change is what it seems, a margin of "
        f"{100 * margin:g} needs about {needed:,} of them (power 80 %)."
    )


def _class_reason(test: PairedTest, classes: tuple[ClassChange, ...]) -> tuple[str, ...]:
    worse = [change for change in classes if change.difference < 0][:_MAX_CLASSES_NAMED]
    if test.passed or not worse:
        return ()
    named = ", ".join(
        f"{c.label} ({100 * c.champion:.1f} % → {100 * c.candidate:.1f} % of {c.n})" for c in worse
    )
    return (f"Most is lost on {named}.",)


def _val_reason(debug_val: PairedTest, grouped: bool, level: float) -> str:
    counts = debug_val.counts
    name = "sign-flip test of groups," if grouped else "McNemar"
    verdict = "an improvement" if debug_val.passed else "no proof of an improvement"
    needed = None if debug_val.passed else images_for_improvement(counts, level)
    more = ""
    if needed is not None:
        more = f" If the gain is what it seems, about {needed:,} images would show it (power 80 %)."
    return (
        f"On debug_val {counts.gained} of {counts.n} images are newly right and {counts.lost} "
        f"newly wrong ({_points(counts.difference)}): {verdict} ({name} p = "
        f"{debug_val.p_value:.2g}).{more}"
    )


def _burst_reasons(pairs: Mapping[str, Pairs]) -> tuple[str, ...]:
    """Say where images belong together, and how many independent ones they are worth."""
    said = []
    for split, of_split in pairs.items():
        if of_split.groups is not None:
            n, n_groups = len(of_split.groups), len(np.unique(of_split.groups))
            worth = effective_n(of_split.changes, of_split.groups)
            said.append(
                f"The {n:,} images of {split} are {n_groups:,} groups that belong together; for "
                f"this comparison they are worth {worth:,} independent images."
            )
    return tuple(said)


def _points(share: float) -> str:
    return f"{100 * share:+.2f} points"


def _lost(bound: float) -> str:
    return f"{max(0.0, -100 * bound):.2f} points"
