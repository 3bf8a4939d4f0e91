"""Which of several models a recipe takes, judged on val and failures held out. Pure.

val is what the models saw nothing of within train (cross-validation), so it stands for test; the
failures, those of the error sample that the models saw nothing of, stand for debug_heldout. Both
are small, so differences are measured in standard errors of the paired difference on the same
images, and what lies on a line between two models is judged by the parabola through all that lie
there: along a line accuracy changes slowly, and the luck of single images is not chosen. Of equally
good models the one that is best on val is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import Objective

_LEAST = 0.005  # a standard error is taken for no less: what is that near counts for nothing
_DEGREE = 2  # of the curve through a line
# failures_first: val may lose as much as the gate lets test lose, less what noise may hide. With
# few images noise would hide everything, so no more than a point is asked for.
_MARGIN, _MOST_NOISE = 0.005, 0.01
_TIE = 0.25  # both: standard errors by which a model may be behind a baseline
_SURE = 0.5  # standard errors of gain on failures that excuse a loss on val against a baseline


@dataclass(frozen=True, eq=False)
class Judged:
    """A model between others. shares: of each of them in its weights, their sum being 1.

    val, failures: (V,) and (E,) bool, whether each image is classified rightly. line, alpha: the
    line that it lies on, by name, and where; "" for a model that stands alone.
    """

    shares: Mapping[str, float]
    val: np.ndarray
    failures: np.ndarray
    line: str = ""
    alpha: float = 0.0

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
    models: Sequence[Judged],
    baselines: Sequence[str],
    objective: Objective,
    judged_on: str = "error_sample",
) -> Choice:
    """Choose by the objective; `none` must be among the models, as the only part of one of them.

    failures_first: the best on failures of those that are not worse than `none` on val. both: the
    best on failures of those that no baseline beats on val or failures, or that are the least
    beaten. A number: the most of failures + number · val. Of equally good ones the best on val.
    None that a baseline beats on both is taken, nor one that is behind a baseline on val for a gain
    on failures that may be noise. judged_on: the split that the failures are of, for the reason.
    """
    alone = {name: m for m in models for name, share in m.shares.items() if share == 1}
    known = [alone[name] for name in baselines if name in alone]
    none = alone["none"]
    val = np.array([m.val.mean() for m in models])
    failures = np.array([m.failures.mean() for m in models])
    score, level = smoothed(models, failures), smoothed(models, val)
    every = range(len(models))
    if objective == "failures_first":
        allowed = [i for i in every if level[i] >= least_level(models[i].val, none.val)]
        why = "the best on failures held out, of what is not worse than none on val"
    elif objective == "both":
        behind = [_most_behind(m, known, (level[i], score[i])) for i, m in enumerate(models)]
        # Where every model is behind some baseline: those that are the least so.
        allowed = [i for i in every if behind[i] <= max(_TIE, min(behind))]
        why = "the best on failures held out, of what no baseline beats"
    else:
        price = float(objective)
        allowed, score = list(every), score + price * level
        why = f"the most on failures held out, a point of val being worth {price:g} of it"
    undominated = [i for i in allowed if not any(_pays_for_noise(models[i], b) for b in known)]
    index = max(undominated or allowed, key=lambda i: (score[i], level[i]))
    chosen = models[index]
    reason = (
        f"{chosen.name}: {why} ({100 * failures[index]:.1f} % of {len(chosen.failures)} images "
        f"of {judged_on}, none {100 * none.failures.mean():.1f}; {100 * val[index]:.1f} % of "
        f"{len(chosen.val)} of val, none {100 * none.val.mean():.1f})"
    )
    return Choice(index, reason)


def smoothed(models: Sequence[Judged], values: np.ndarray) -> np.ndarray:
    """Values (N,) of the models; of those on a line, the parabola through them there."""
    found = values.astype(float)
    for line in sorted({model.line for model in models} - {""}):
        at = [i for i, model in enumerate(models) if model.line == line]
        alphas = np.array([models[i].alpha for i in at])
        curve = np.polyfit(alphas, found[at], min(_DEGREE, len(at) - 1))
        found[at] = np.polyval(curve, alphas)
    return found


def standard_error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two accuracies on the same images, (N,) bool each."""
    difference = one.astype(float) - other
    return float(difference.std() / np.sqrt(len(difference)))


def least_level(one: np.ndarray, other: np.ndarray) -> float:
    """The accuracy from which `one` is not worse than `other`; (N,) bool on the same images.

    That is where it is behind by no more than the margin, less a standard error.
    """
    noise = min(standard_error(one, other), _MOST_NOISE)
    return float(other.mean()) + noise - _MARGIN


def _most_behind(model: Judged, baselines: Sequence[Judged], levels: tuple[float, float]) -> float:
    """By how many standard errors a model is behind a baseline at most, on val or failures.

    levels: its accuracies there.
    """
    behind = [0.0]
    for other in baselines:
        for level, own, theirs in (
            (levels[0], model.val, other.val),
            (levels[1], model.failures, other.failures),
        ):
            behind.append((float(theirs.mean()) - level) / _noise(own, theirs))
    return max(behind)


def _noise(one: np.ndarray, other: np.ndarray) -> float:
    return max(standard_error(one, other), _LEAST)


def _pays_for_noise(model: Judged, baseline: Judged) -> bool:
    """Whether the baseline is better on val, and the model not surely better on failures."""
    if baseline.val.mean() <= model.val.mean():
        return False
    gain = float(model.failures.mean() - baseline.failures.mean())
    return gain < _SURE * _noise(model.failures, baseline.failures)
