"""Which of several models a recipe takes, judged on val and debug_val alone. Pure.

val is what the models saw nothing of within train (cross-validation), so it stands for test;
debug_val stands for debug_heldout. Both are small. So a model counts as worse than another only
where it is behind by more than three quarters of a standard error of their paired difference; what
lies between two others on a line is judged on debug_val together with its neighbours there, since
accuracy changes little from one to the next; and of equally good models the one that is best on val
is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import Objective

# Standard errors of a paired difference.
_NOISE = 0.75  # a model that is behind another by no more is not worse than it
_LEAST = 0.005  # a standard error is taken for no less: what is that near counts for nothing
_NEXT = 0.1 + 1e-6  # shares of neighbours on a line differ by no more


@dataclass(frozen=True, eq=False)
class Judged:
    """A model between others. shares: of each of them in its weights, their sum being 1.

    val, debug_val: (V,) and (M,) bool, whether each image is classified rightly.
    """

    shares: Mapping[str, float]
    val: np.ndarray
    debug_val: np.ndarray

    @property
    def name(self) -> str:
        """Its shares in words, such as `0.6 whole_pool + 0.4 targeted`."""
        parts = [(n, s) for n, s in self.shares.items() if s > 0]
        if len(parts) == 1:
            return parts[0][0]
        return " + ".join(f"{share:g} {name}" for name, share in parts)


@dataclass(frozen=True)
class Choice:
    """The chosen one of the judged models by its place, and why, in a sentence."""

    index: int
    reason: str


def choose_model(
    models: Sequence[Judged], baselines: Sequence[str], objective: Objective
) -> Choice:
    """Choose by the objective; `none` must be among the models, as the only part of one of them.

    failures_first: the best on debug_val of those that are not worse than `none` on val. both: the
    best on debug_val of those that no baseline beats on val or debug_val, or that are the least
    beaten. A number: the most of
    debug_val + number · val. Of equally good ones the best on val.
    """
    alone = {
        name: i for i, m in enumerate(models) for name, share in m.shares.items() if share == 1
    }
    known = [alone[name] for name in baselines if name in alone]
    none = models[alone["none"]]
    val = np.array([m.val.mean() for m in models])
    debug_val = np.array([m.debug_val.mean() for m in models])
    score = smoothed(models, debug_val)
    if objective == "failures_first":
        allowed = [i for i, m in enumerate(models) if not is_worse(m.val, none.val)]
        why = "the best on debug_val of what is not worse than none on val"
    elif objective == "both":
        behind = [_most_behind(m, [models[k] for k in known]) for m in models]
        # Where every model is behind some baseline: those that are the least so.
        allowed = [i for i in range(len(models)) if behind[i] <= max(_NOISE, min(behind))]
        why = "the best on debug_val of what no baseline beats"
    else:
        price = float(objective)
        allowed, score = list(range(len(models))), score + price * val
        why = f"the most on debug_val, a point of val being worth {price:g} of it"
    index = max(allowed, key=lambda i: (score[i], val[i]))
    chosen = models[index]
    reason = (
        f"{chosen.name}: {why} ({100 * debug_val[index]:.1f} % of {len(chosen.debug_val)} images "
        f"of debug_val, none {100 * none.debug_val.mean():.1f}; {100 * val[index]:.1f} % of "
        f"{len(chosen.val)} of val, none {100 * none.val.mean():.1f})"
    )
    return Choice(index, reason)


def smoothed(models: Sequence[Judged], values: np.ndarray) -> np.ndarray:
    """Values (N,) of the models, those between two ends averaged with their neighbours' there."""
    found = values.astype(float)
    for i, model in enumerate(models):
        ends = {end for end, share in model.shares.items() if share}
        if len(ends) == 2:
            near = [
                j
                for j, other in enumerate(models)
                if {end for end, share in other.shares.items() if share} <= ends
                and all(
                    abs(other.shares.get(end, 0) - model.shares.get(end, 0)) <= _NEXT
                    for end in ends
                )
            ]
            found[i] = values[near].mean()
    return found


def standard_error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two accuracies on the same images, (N,) bool each."""
    difference = one.astype(float) - other
    return float(difference.std() / np.sqrt(len(difference)))


def is_worse(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether `one` is behind `other` by more than noise would leave; (N,) bool each."""
    return _behind(one, other) > _NOISE


def _behind(one: np.ndarray, other: np.ndarray) -> float:
    """By how many standard errors `one` is behind `other`; 0 where it is not."""
    gap = float(other.mean() - one.mean())
    return gap / max(standard_error(one, other), _LEAST) if gap > 0 else 0.0


def _most_behind(model: Judged, baselines: Sequence[Judged]) -> float:
    """By how many standard errors a model is behind a baseline at most, on val or debug_val."""
    return max(
        max(_behind(model.val, other.val), _behind(model.debug_val, other.debug_val))
        for other in baselines
    )
