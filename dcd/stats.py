"""Intervals for accuracies and for their differences.

Percentile bootstrap (Efron & Tibshirani 1993, ch. 13). An image is right or wrong, so a resample
of n images has a binomial count of right ones: no image index is ever drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from dcd.errors import DataError

N_BOOTSTRAP = 10_000


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(correct: np.ndarray, level: float = 0.95) -> Interval:
    """Accuracy of (N,) 0/1 outcomes with its percentile bootstrap interval over images.

    Exact: the quantiles of Binomial(N, accuracy)/N, the limit of infinitely many resamples.
    Raises DataError without outcomes.
    """
    n = _count(correct)
    value = float(np.mean(correct))
    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], n, value) / n
    return Interval(value, float(low), float(high))


def over_seeds(
    correct: Sequence[np.ndarray],
    seed: int = 0,
    n_bootstrap: int = N_BOOTSTRAP,
    level: float = 0.95,
) -> Interval:
    """Mean over seeds of the accuracies of 0/1 outcomes, (N_s,) for each seed s.

    The interval resamples seeds, then images within each drawn seed (the hierarchical bootstrap:
    Davison & Hinkley 1997, §3.8). Raises DataError without outcomes.
    """
    n = np.array([_count(outcomes) for outcomes in correct])
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
) -> Interval:
    """Mean over seeds of accuracy(candidate) - accuracy(reference) on the same images.

    Both: one (N_s,) array of 0/1 outcomes for each seed, in the same image order. The interval
    resamples seeds, then images as pairs. Raises DataError if the pairs do not match.
    """
    if [len(c) for c in candidate] != [len(r) for r in reference]:
        raise DataError(
            f"paired difference: the candidate has {[len(c) for c in candidate]} outcomes a seed, "
            f"the reference {[len(r) for r in reference]}; evaluate both on the same images"
        )
    n = np.array([_count(outcomes) for outcomes in candidate])
    changes = [
        np.asarray(c, int) - np.asarray(r, int) for c, r in zip(candidate, reference, strict=True)
    ]
    shares = np.array([[np.mean(d == 1), np.mean(d == -1), np.mean(d == 0)] for d in changes])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(n), size=(n_bootstrap, len(n)))
    counts = rng.multinomial(n[drawn], shares[drawn])
    means = ((counts[..., 0] - counts[..., 1]) / n[drawn]).mean(axis=1)
    return _percentiles(float((shares[:, 0] - shares[:, 1]).mean()), means, level)


def _percentiles(value: float, resamples: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _count(outcomes: np.ndarray) -> int:
    if len(outcomes) == 0:
        raise DataError("statistics: no evaluated images; an accuracy needs at least one")
    return len(outcomes)
