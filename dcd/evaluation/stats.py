"""Compute intervals for accuracies and their differences, and tests of paired ones.

Percentile bootstrap (Efron & Tibshirani 1993, ch. 13). An image is right or wrong, so a resample
of n images has a binomial count of right ones: no image index is ever drawn. Images that belong
together count as so many independent ones as tell as much (`dcd.evaluation.bursts`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dcd.errors import DataError
from dcd.evaluation import binomial
from dcd.evaluation.bursts import Groups, design_effect, effective_n

N_BOOTSTRAP = 10_000
_NORMAL = NormalDist()
_PRECISION = 1e-12  # of a bound


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval.

    Attributes:
        value: the estimate.
        low: where the interval begins.
        high: where it ends.
    """

    value: float
    low: float
    high: float


def bootstrap_mean(correct: np.ndarray, level: float = 0.95, groups: Groups = None) -> Interval:
    """Return the accuracy of (N,) 0/1 outcomes with its percentile bootstrap interval over images.

    Exact: the quantiles of Binomial(N, accuracy)/N, the limit of infinitely many resamples.
    groups: which images belong together. Raises DataError without outcomes.
    """
    _count(correct)
    n = effective_n(correct, groups)
    value = float(np.mean(correct))
    low, high = (binomial.quantile(q, n, value) / n for q in ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, low, high)


def over_seeds(
    correct: Sequence[np.ndarray],
    seed: int = 0,
    n_bootstrap: int = N_BOOTSTRAP,
    level: float = 0.95,
    groups: Sequence[Groups] | None = None,
) -> Interval:
    """Return the mean over seeds of the accuracies of 0/1 outcomes, (N_s,) for each seed s.

    The interval resamples seeds, then images within each drawn seed (the hierarchical bootstrap:
    Davison & Hinkley 1997, §3.8). groups: which images of a seed belong together. Raises DataError
    without outcomes.
    """
    for outcomes in correct:
        _count(outcomes)
    n = _effective(correct, groups)
    accuracy = np.array([np.mean(outcomes) for outcomes in correct])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(n), size=(n_bootstrap, len(n)))
    means = (rng.binomial(n[drawn], accuracy[drawn]) / n[drawn]).mean(axis=1)
    return _percentiles(float(accuracy.mean()), means, level)


def paired_difference(
    candidate: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    seed: int = 0,
    n_bootstrap: int = N_BOOTSTRAP,
    level: float = 0.95,
    groups: Sequence[Groups] | None = None,
) -> Interval:
    """Return the mean over seeds of accuracy(candidate) - accuracy(reference), on the same images.

    Both: one (N_s,) array of 0/1 outcomes for each seed, in the same image order. The interval
    resamples seeds, then images as pairs. groups: which images of a seed belong together. Raises
    DataError if the pairs do not match.
    """
    value, means = _resampled_differences(candidate, reference, seed, n_bootstrap, groups)
    return _percentiles(value, means, level)


def paired_p_value(
    candidate: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    seed: int = 0,
    n_bootstrap: int = N_BOOTSTRAP,
    groups: Sequence[Groups] | None = None,
) -> float:
    """Return the two-sided p-value of "no difference".

    It is what level of `paired_difference` just excludes 0.

    Never below 2 / (n_bootstrap + 1) (Davison & Hinkley 1997, section 4.2.5).
    """
    _, means = _resampled_differences(candidate, reference, seed, n_bootstrap, groups)
    tail = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return min(1.0, 2 * (tail + 1) / (n_bootstrap + 1))


def _resampled_differences(
    candidate: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    seed: int,
    n_bootstrap: int,
    groups: Sequence[Groups] | None,
) -> tuple[float, np.ndarray]:
    """The difference, and (n_bootstrap,) of its resamples."""
    if [len(c) for c in candidate] != [len(r) for r in reference]:
        raise DataError(
            f"paired difference: the candidate has {[len(c) for c in candidate]} outcomes a seed, "
            f"the reference {[len(r) for r in reference]}; evaluate both on the same images"
        )
    for outcomes in candidate:
        _count(outcomes)
    changes = [
        np.asarray(c, int) - np.asarray(r, int) for c, r in zip(candidate, reference, strict=True)
    ]
    n = _effective(changes, groups)
    shares = np.array([[np.mean(d == 1), np.mean(d == -1), np.mean(d == 0)] for d in changes])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(n), size=(n_bootstrap, len(n)))
    counts = rng.multinomial(n[drawn], shares[drawn])
    means = ((counts[..., 0] - counts[..., 1]) / n[drawn]).mean(axis=1)
    return float((shares[:, 0] - shares[:, 1]).mean()), means


def _effective(values: Sequence[np.ndarray], groups: Sequence[Groups] | None) -> np.ndarray:
    """(S,) of the independent images that tell as much as those of each seed."""
    of_seeds = [None] * len(values) if groups is None else groups
    return np.array([effective_n(v, g) for v, g in zip(values, of_seeds, strict=True)])


def _percentiles(value: float, resamples: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _count(outcomes: np.ndarray) -> int:
    if len(outcomes) == 0:
        raise DataError("statistics: no evaluated images; an accuracy needs at least one")
    return len(outcomes)


@dataclass(frozen=True)
class PairedCounts:
    """Two models on the same n images: what only the candidate and only the reference got right.

    design_effect: how many times as large as of independent images the variance of `difference` is.
    """

    n: int
    gained: int
    lost: int
    design_effect: float = 1.0

    @property
    def difference(self) -> float:
        """accuracy(candidate) - accuracy(reference), as a share."""
        return (self.gained - self.lost) / self.n


def paired_counts(
    candidate: np.ndarray, reference: np.ndarray, groups: Groups = None
) -> PairedCounts:
    """Count 0/1 outcomes (N,) of the same images in the same order. Raises DataError if not.

    groups: which images belong together.
    """
    if len(candidate) != len(reference):
        raise DataError(
            f"paired test: the candidate has {len(candidate)} outcomes, the reference "
            f"{len(reference)}; evaluate both on the same images"
        )
    candidate, reference = np.asarray(candidate, bool), np.asarray(reference, bool)
    return PairedCounts(
        _count(candidate),
        int(np.sum(candidate & ~reference)),
        int(np.sum(~candidate & reference)),
        design_effect(candidate.astype(int) - reference.astype(int), groups),
    )


def non_inferiority(counts: PairedCounts, margin: float) -> float:
    """Return the one-sided p-value of "the candidate is worse by `margin` (a share > 0) or more".

    The score test for paired proportions (Tango 1998, Statistics in Medicine 17:891, eq. 8). It
    keeps its level where the Wald test does not: for few differing images. Its statistic is divided
    by the root of the design effect.
    """
    return math.erfc(_tango_z(counts, -margin) / math.sqrt(2)) / 2


def lower_bound(counts: PairedCounts, level: float = 0.95) -> float:
    """Return the one-sided lower bound of `difference`: what `non_inferiority` does not reject."""
    quantile = _NORMAL.inv_cdf(level)
    lowest, highest = -1 + 1e-9, min(counts.difference, 1 - 1e-9)
    if _tango_z(counts, lowest) <= quantile:
        return -1.0
    while highest - lowest > _PRECISION:
        middle = (lowest + highest) / 2
        if _tango_z(counts, middle) > quantile:
            lowest = middle
        else:
            highest = middle
    return (lowest + highest) / 2


def images_for_non_inferiority(
    counts: PairedCounts, margin: float, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Reckon how many images would show non-inferiority, if what was seen is the truth.

    Of the score test itself, whose variance at the margin is above 0 even where no image differs:
    so it is always more than were refused. None where the loss is the margin or more, which no
    number of images would change.
    """
    gap = counts.difference + margin
    if gap <= 0:
        return None
    differing = (counts.gained + counts.lost) / counts.n
    at_margin = _NORMAL.inv_cdf(1 - level) * math.sqrt(_score_variance(counts, -margin))
    as_seen = _NORMAL.inv_cdf(power) * math.sqrt(max(differing - counts.difference**2, 0.0))
    return math.ceil(counts.design_effect * ((at_margin + as_seen) / gap) ** 2)


def images_for_improvement(
    counts: PairedCounts, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Reckon how many images McNemar's test would need, if what was seen is the truth.

    Connor 1987, Biometrics 43:207. None where nothing was gained.
    """
    gain, differing = counts.difference, (counts.gained + counts.lost) / counts.n
    if gain <= 0:
        return None
    under_none = _NORMAL.inv_cdf(1 - level) * math.sqrt(differing)
    as_seen = _NORMAL.inv_cdf(power) * math.sqrt(differing - gain**2)
    return math.ceil(counts.design_effect * ((under_none + as_seen) / gain) ** 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.maximum.accumulate(np.asarray(p_values, float)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def _tango_z(counts: PairedCounts, delta: float) -> float:
    """Score statistic of the hypothesis difference = delta, in (-1, 1); large: it is greater."""
    variance = counts.n * _score_variance(counts, delta)
    distance = counts.gained - counts.lost - counts.n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance * counts.design_effect)


def _score_variance(counts: PairedCounts, delta: float) -> float:
    """Variance of one image's change, if the difference were delta and the rest as was seen."""
    n, gained, lost = counts.n, counts.gained, counts.lost
    # q: the likeliest share of images that only the reference gets right, given delta.
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    return 2 * q + delta * (1 - delta)
