"""Which of several models a recipe takes, judged on val and failures held out. Pure.

val is what the models saw nothing of within train (cross-validation), so it stands for test; the
failures, those of the error sample that the models saw nothing of, stand for debug_heldout. Both
are small, so differences are measured in standard errors of the paired difference on the same
images. What lies on a line between two models is judged on failures together with its neighbours
there, since accuracy changes little from one to the next; and of equally good models the one that
is best on val is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import Objective

_LEAST = 0.005  # a standard error is taken for no less: what is that near counts for nothing
_NEXT = 0.1 + 1e-6  # shares of neighbours on a line differ by no more
# failures_first: val may lose as much as the gate lets test lose, less what noise may hide. With
# few images noise would hide everything, so no more than a point is asked for.
_MARGIN, _MOST_NOISE = 0.005, 0.01
_TIE = 0.25  # both: standard errors by which a model may be behind a baseline
_SURE = 0.5  # standard errors of gain on failures that excuse a loss on val against a baseline


@dataclass(frozen=True, eq=False)
class Judged:
    """A model between others. shares: of each of them in its weights, their sum being 1.

    line: names the line that it lies on; "" for a model that stands alone. val, failures: (V,) and
    (E,) bool, whether each image is classified rightly.
    """

    shares: Mapping[str, float]
    val: np.ndarray
    failures: np.ndarray
    line: str = ""

    @property
    def name(self) -> str:
        """Its shares in words, such as `0.6 whole_pool + 0.4 targeted`."""
        return mixture_name(self.shares)


def mixture_name(shares: Mapping[str, float]) -> str:
    """Say shares in words; a share of 1 is the name alone."""
    parts = [(name, share) for name, share in shares.items() if share]
    if len(parts) == 1:
        return parts[0][0]
    said = " + ".join(f"{share:g} {name}" for name, share in parts)
    return said.replace("+ -", "- ")


@dataclass(frozen=True)
class Choice:
    """The chosen one of the judged models by its place, and why, in a sentence."""

    index: int
    reason: str


def choose_model(
    models: Sequence[Judged], baselines: Sequence[str], objective: Objective
) -> Choice:
    """Choose by the objective; `none` must be among the models, as the only part of one of them.

    failures_first: the best on failures of those that are not worse than `none` on val. both: the
    best on failures of those that no baseline beats on val or failures, or that are the least
    beaten. A number: the most of failures + number · val. Of equally good ones the best on val.
    None that a baseline beats on both is taken, nor one that is behind a baseline on val for a gain
    on failures that may be noise.
    """
    alone = {
        name: i for i, m in enumerate(models) for name, share in m.shares.items() if share == 1
    }
    known = [models[alone[name]] for name in baselines if name in alone]
    none = models[alone["none"]]
    val = np.array([m.val.mean() for m in models])
    failures = np.array([m.failures.mean() for m in models])
    score = smoothed(models, failures)
    every = range(len(models))
    if objective == "failures_first":
        allowed = [i for i in every if not may_lose(models[i].val, none.val)]
        why = "the best on failures held out, of what is not worse than none on val"
    elif objective == "both":
        behind = [_most_behind(m, known) for m in models]
        # Where every model is behind some baseline: those that are the least so.
        allowed = [i for i in every if behind[i] <= max(_TIE, min(behind))]
        why = "the best on failures held out, of what no baseline beats"
    else:
        price = float(objective)
        allowed, score = list(every), score + price * val
        why = f"the most on failures held out, a point of val being worth {price:g} of it"
    undominated = [i for i in allowed if not any(_pays_for_noise(models[i], b) for b in known)]
    index = max(undominated or allowed, key=lambda i: (score[i], val[i]))
    chosen = models[index]
    reason = (
        f"{chosen.name}: {why} ({100 * failures[index]:.1f} % of {len(chosen.failures)} images "
        f"of the error sample, none {100 * none.failures.mean():.1f}; {100 * val[index]:.1f} % of "
        f"{len(chosen.val)} of val, none {100 * none.val.mean():.1f})"
    )
    return Choice(index, reason)


def smoothed(models: Sequence[Judged], values: np.ndarray) -> np.ndarray:
    """Values (N,) of the models, those on a line averaged with their neighbours' there."""
    found = values.astype(float)
    for i, model in enumerate(models):
        if model.line:
            near = [j for j, other in enumerate(models) if _are_next(model, other)]
            found[i] = values[near].mean()
    return found


def standard_error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two accuracies on the same images, (N,) bool each."""
    difference = one.astype(float) - other
    return float(difference.std() / np.sqrt(len(difference)))


def may_lose(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether `one` may be behind `other` by the margin: they are (N,) bool on the same images.

    It may where the difference, less a standard error, is below the margin. What is equal on every
    image may not.
    """
    noise = min(standard_error(one, other), _MOST_NOISE)
    return float(one.mean() - other.mean()) < noise - _MARGIN


def _are_next(model: Judged, other: Judged) -> bool:
    """Whether they lie side by side on one line, or the other is its end."""
    if other.line not in ("", model.line):
        return False
    names = model.shares.keys() | other.shares.keys()
    return all(abs(model.shares.get(n, 0) - other.shares.get(n, 0)) <= _NEXT for n in names)


def _behind(one: np.ndarray, other: np.ndarray) -> float:
    """By how many standard errors `one` is behind `other`; 0 where it is not."""
    gap = float(other.mean() - one.mean())
    return gap / max(standard_error(one, other), _LEAST) if gap > 0 else 0.0


def _most_behind(model: Judged, baselines: Sequence[Judged]) -> float:
    """By how many standard errors a model is behind a baseline at most, on val or failures."""
    return max(
        max(_behind(model.val, other.val), _behind(model.failures, other.failures))
        for other in baselines
    )


def _pays_for_noise(model: Judged, baseline: Judged) -> bool:
    """Whether the baseline is better on val, and the model not surely better on failures."""
    if baseline.val.mean() <= model.val.mean():
        return False
    return _behind(baseline.failures, model.failures) < _SURE
