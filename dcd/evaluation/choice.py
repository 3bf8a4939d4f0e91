"""Which of several models a recipe takes, judged on val and failures held out. Pure.

val is what the models saw nothing of within train (cross-validation), so it stands for test; the
failures, those of the error sample that the models saw nothing of, stand for debug_heldout. Both
are small, so differences are measured in standard errors of the paired difference on the same
images, and the luck of single images is kept out: an image near the border counts as half right,
and what lies on a line between two models is judged by the parabola through all that lie there. Of
equally good models the one that is best on val is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import Objective

UNKNOWN = -1  # in place of a class index
_LEAST = 0.005  # a standard error is taken for no less: what is that near counts for nothing
_DEGREE = 2  # of the curve through a line
# failures_first: val must be a standard error above none's, but by no more than a point where it
# has a thousand images, since the gate needs to see a gain of 0.3 points with 10,000 images of test
# at its usual margin, and by more where it has fewer, which may all be luck; nor by more than the
# baselines show to be possible, less what may be lost unnoticed.
_MOST_NOISE, _ENOUGH_VAL, _UNNOTICED = 0.01, 1000, 0.002
_TIE = 0.25  # both: standard errors by which a model may be behind a baseline
_BEHIND = 0.004  # both: or this much: a loss that nobody would notice
# both, of models on the way from a baseline: what they may surely cost val against it, and how sure
# that is (in standard errors: 95 % on one side).
_MOST_LOST, _ONE_SIDED = 0.01, 1.645
_SURE = 0.5  # standard errors of gain on failures that excuse a loss on val against a baseline


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of N images.

    logits: (N, C). truth: (N,), class indices, or UNKNOWN for a class that the model has not.
    """

    logits: np.ndarray
    truth: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(N,) bool."""
        return self.logits.argmax(axis=1) == self.truth

    def take(self, rows: np.ndarray) -> "Answers":
        """Keep the images at these positions."""
        return Answers(self.logits[rows], self.truth[rows])


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model between others. shares: of each of them in its weights, their sum being 1.

    val, failures: (V,) and (E,) bool, whether each image is classified rightly. line, alpha: the
    line that it lies on, by name, and where; "" for a model that stands alone. soft: its levels,
    images near the border counting half; sure_of_val: (V,) in 0…1, that of each.
    """

    shares: Mapping[str, float]
    val: np.ndarray
    failures: np.ndarray
    line: str = ""
    alpha: float = 0.0
    soft: tuple[float, float] | None = None
    sure_of_val: np.ndarray | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """What the model is compared by, on val and on failures."""
        return self.soft or (float(self.val.mean()), float(self.failures.mean()))

    @classmethod
    def judged(
        cls,
        shares: Mapping[str, float],
        val: "Answers",
        failures: "Answers",
        line: str = "",
        alpha: float = 0.0,
    ) -> "Candidate":
        """Judge a model by what it says of images that it did not see.

        An image near the border counts as half right on either; what is near is told by val, which
        has more of them.
        """
        scale = margin_scale(margins(val.logits, val.truth))
        of_val, of_failures = (soft_right(of.logits, of.truth, scale) for of in (val, failures))
        soft = (float(of_val.mean()), float(of_failures.mean()))
        return cls(shares, val.right, failures.right, line, alpha, soft, of_val)

    @property
    def name(self) -> str:
        """Its shares in words, such as `0.6 whole_pool + 0.4 targeted`."""
        return mixture_name(self.shares)


def mixture_name(shares: Mapping[str, float]) -> str:
    """Say shares in words; a share of 1 is the name alone, and one below 0 is taken off."""
    text = ""
    for name, share in sorted(shares.items(), key=lambda part: -part[1]):
        size = "" if abs(share) == 1 else f"{abs(share):g} "
        sign = (" - " if text else "-") if share < 0 else (" + " if text else "")
        text += f"{sign}{size}{name}" if share else ""
    return text


@dataclass(frozen=True)
class Choice:
    """The chosen one of the judged models by its place, and why, in a sentence."""

    index: int
    reason: str


def choose_model(
    models: Sequence[Candidate],
    baselines: Sequence[str],
    objective: Objective,
    judged_on: str = "error_sample",
    built_on: str | None = None,
) -> Choice:
    """Choose by the objective; `none` must be among the models, as the only part of one of them.

    failures_first: the best on failures of those that are surely not worse than `none` on val.
    both: the best on failures of those that no baseline beats on val or failures, or that are the
    least beaten. A number: the most of failures + number · val. Of equally good ones the best on
    val.
    None that a baseline beats on both is taken, nor one that is behind a baseline on val for a gain
    on failures that may be noise. judged_on: the split that the failures are of, for the reason.
    built_on: a baseline that those which are no mixture of baselines went on from: for both they
    surely cost val less than a point against it. For few images of val, which do not tell by
    themselves what a model costs.
    """
    alone = {name: m for m in models for name, share in m.shares.items() if share == 1}
    known = [alone[name] for name in baselines if name in alone]
    none = alone["none"]
    level = smoothed(models, np.array([m.levels[0] for m in models]))
    score = smoothed(models, np.array([m.levels[1] for m in models]))
    every = range(len(models))
    if objective == "failures_first":
        allowed = [i for i in every if level[i] >= least_level(models[i], none, known)]
        why = "the best on failures held out, of what is surely not worse than none on val"
    elif objective == "both":
        behind = {
            i: _most_behind(models[i], known, (level[i], score[i]))
            for i in every
            if built_on is None
            or models[i].shares.keys() <= set(baselines)
            or most_lost(models[i], alone[built_on]) <= _MOST_LOST
        }
        # Where every model is behind some baseline: those that are the least so.
        allowed = [i for i, gap in behind.items() if gap <= max(_TIE, min(behind.values()))]
        why = "the best on failures held out, of what no baseline beats"
        if built_on is not None:
            why += f", and what surely costs val less than a point against {built_on}"
    else:
        price = float(objective)
        allowed, score = list(every), score + price * level
        why = f"the most on failures held out, a point of val being worth {price:g} of it"
    undominated = [i for i in allowed if not any(_pays_for_noise(models[i], b) for b in known)]
    index = max(undominated or allowed, key=lambda i: (score[i], level[i]))
    chosen = models[index]
    reason = (
        f"{chosen.name}: {why} ({100 * chosen.failures.mean():.1f} % of {len(chosen.failures)} "
        f"images of {judged_on}, none {100 * none.failures.mean():.1f}; "
        f"{100 * chosen.val.mean():.1f} % of {len(chosen.val)} of val, "
        f"none {100 * none.val.mean():.1f})"
    )
    return Choice(index, reason)


def smoothed(models: Sequence[Candidate], values: np.ndarray) -> np.ndarray:
    """Values (N,) of the models; of those on a line, the parabola through them there."""
    found = values.astype(float)
    for line in sorted({model.line for model in models} - {""}):
        at = [i for i, model in enumerate(models) if model.line == line]
        alphas = np.array([models[i].alpha for i in at])
        curve = np.polyfit(alphas, found[at], min(_DEGREE, len(at) - 1))
        found[at] = np.polyval(curve, alphas)
    return found


def standard_error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two accuracies on the same images.

    one, other: (N,) bool, or in 0…1.
    """
    difference = one.astype(float) - other
    return float(difference.std() / np.sqrt(len(difference)))


def least_level(model: Candidate, none: Candidate, baselines: Sequence[Candidate]) -> float:
    """The level on val from which a model is surely not worse than `none`.

    A standard error above it, or nearly as far above it as the best baseline, if that is less:
    where the pool does not help on val, nothing that helps the failures would be left.
    """
    possible = max(baseline.levels[0] for baseline in (*baselines, none)) - none.levels[0]
    most = _MOST_NOISE * max(1.0, _ENOUGH_VAL / len(none.val))
    above = min(standard_error(model.val, none.val), most, possible - _UNNOTICED)
    return none.levels[0] + above


def most_lost(model: Candidate, baseline: Candidate) -> float:
    """What a model may lose on val against a baseline: less than this with 95 % certainty.

    From the paired differences of how surely each image is right, images near the border counting
    half: their standard error is half of what it is where each counts 0 or 1.
    """
    own, theirs = (
        m.val.astype(float) if m.sure_of_val is None else m.sure_of_val for m in (model, baseline)
    )
    return float((theirs - own).mean()) + _ONE_SIDED * standard_error(own, theirs)


def soft_right(logits: np.ndarray, truth: np.ndarray, scale: float | None = None) -> np.ndarray:
    """How surely each image is right: (N,) in 0…1, 0.5 at the border between two classes.

    logits: (N, C). truth: (N,), class indices. Instead of the step from 0 to 1 at a margin of 0 (to
    the best other class) a normal distribution function of it: less depends on the few images that
    happen to lie at the border. scale: its standard deviation, see `margin_scale`.
    """
    from scipy.special import ndtr

    margin = margins(logits, truth)
    sure = ndtr(margin / (margin_scale(margin) if scale is None else scale))
    return np.where(truth == UNKNOWN, 0.0, sure)


def margins(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,): the logit of the true class less the highest of the others."""
    rows = np.arange(len(truth))
    others = logits.astype(float)
    others[rows, truth] = -np.inf
    return logits[rows, truth] - others.max(axis=1)


def margin_scale(margin: np.ndarray) -> float:
    """Half of the mean size of margins (N,): heads differ in how far their logits spread."""
    return max(0.5 * float(np.abs(margin).mean()), 1e-9)


def _most_behind(
    model: Candidate, baselines: Sequence[Candidate], levels: tuple[float, float]
) -> float:
    """By how many standard errors a model is behind a baseline at most, on val or failures.

    A gap that nobody would notice is none.

    levels: its accuracies there.
    """
    behind = [0.0]
    for other in baselines:
        for gap, own, theirs in (
            (other.levels[0] - levels[0], model.val, other.val),
            (other.levels[1] - levels[1], model.failures, other.failures),
        ):
            behind.append(0.0 if gap <= _BEHIND else gap / _noise(own, theirs))
    return max(behind)


def _noise(one: np.ndarray, other: np.ndarray) -> float:
    return max(standard_error(one, other), _LEAST)


def _pays_for_noise(model: Candidate, baseline: Candidate) -> bool:
    """Whether the baseline is better on val, and the model not surely better on failures."""
    if baseline.levels[0] <= model.levels[0]:
        return False
    gain = model.levels[1] - baseline.levels[1]
    return gain < _SURE * _noise(model.failures, baseline.failures)
