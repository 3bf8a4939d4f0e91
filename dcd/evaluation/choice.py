"""Which of several models a recipe takes, judged on val and debug_val alone. Pure.

val is what the models saw nothing of within train (cross-validation), so it stands for test;
debug_val stands for debug_heldout. Both are small: a model counts as worse than another only where
it is behind by more than half a standard error of their paired difference, and of models that are
equally good the one that is best on val is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import Objective

# Standard errors of a paired difference.
_KEPT = 0.5  # a model that is behind another by no more is not worse than it


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
    best on debug_val of those that no baseline beats on val or debug_val. A number: the most of
    debug_val + number · val. Of equally good ones the best on val.
    """
    alone = {
        name: i for i, m in enumerate(models) for name, share in m.shares.items() if share == 1
    }
    known = [alone[name] for name in baselines if name in alone]
    none = models[alone["none"]]
    val = np.array([m.val.mean() for m in models])
    debug_val = np.array([m.debug_val.mean() for m in models])
    score = debug_val
    if objective == "failures_first":
        allowed = [i for i, m in enumerate(models) if not is_worse(m.val, none.val)]
        why = "the best on debug_val of what is not worse than none on val"
    elif objective == "both":
        allowed = [
            i for i, m in enumerate(models) if _none_is_better(m, [models[k] for k in known])
        ]
        # Where every model is beaten by some baseline: what keeps val, as that is the larger.
        allowed = allowed or [max(known, key=lambda k: (val[k], debug_val[k]))]
        why = "the best on debug_val of what no baseline beats"
    else:
        price = float(objective)
        allowed, score = list(range(len(models))), debug_val + price * val
        why = f"the most on debug_val, a point of val being worth {price:g} of it"
    index = max(allowed, key=lambda i: (score[i], val[i]))
    chosen = models[index]
    reason = (
        f"{chosen.name}: {why} ({100 * debug_val[index]:.1f} % of {len(chosen.debug_val)} images "
        f"of debug_val, none {100 * none.debug_val.mean():.1f}; {100 * val[index]:.1f} % of "
        f"{len(chosen.val)} of val, none {100 * none.val.mean():.1f})"
    )
    return Choice(index, reason)


def standard_error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two accuracies on the same images, (N,) bool each."""
    difference = one.astype(float) - other
    return float(difference.std() / np.sqrt(len(difference)))


def is_worse(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether `one` is behind `other` by more than noise would leave; (N,) bool each."""
    return bool(other.mean() - one.mean() > _KEPT * standard_error(one, other))


def _none_is_better(model: Judged, baselines: Sequence[Judged]) -> bool:
    return not any(
        is_worse(model.val, other.val) or is_worse(model.debug_val, other.debug_val)
        for other in baselines
    )
