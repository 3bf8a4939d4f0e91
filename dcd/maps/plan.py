"""Plan which images a map shows. Pure.

Failures and picks are what it is for: all of them are drawn. Of the pool and of train a share of
every label stands for the rest, so that a rare label is there as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TRAIN_SHARE = 1 / 3  # of what is drawn beside failures and picks, where train has as many


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows of pool and train that are drawn, (N,) int64 each, ascending."""

    pool: np.ndarray
    train: np.ndarray


def plan_sample(pool: Sequence[str], train: Sequence[str], n: int, seed: int = 0) -> Sample:
    """Choose at most n rows by the labels of pool and train; either takes what the other leaves."""
    n_train = min(len(train), round(n * _TRAIN_SHARE))
    n_pool = min(len(pool), n - n_train)
    n_train = min(len(train), n - n_pool)
    return Sample(stratified(pool, n_pool, seed), stratified(train, n_train, seed))


def stratified(labels: Sequence[str], n: int, seed: int = 0) -> np.ndarray:
    """Draw n rows, each label by its share: (N,) int64, ascending; all rows where n is not less.

    Largest remainders decide about fractions; where n allows, no label is without a row.
    """
    if n >= len(labels):
        return np.arange(len(labels))
    _, codes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    quota = _quotas(counts, n)
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = [order[codes[order] == code][:wanted] for code, wanted in enumerate(quota) if wanted]
    return np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))


def _quotas(counts: np.ndarray, n: int) -> np.ndarray:
    """How many rows of each label, (L,) int64: sums to n and is nowhere above the counts."""
    least = np.minimum(counts, 1) if n >= len(counts) else np.zeros_like(counts)
    wanted = least + (counts - least) * ((n - least.sum()) / max((counts - least).sum(), 1))
    quota = np.floor(wanted).astype(np.int64)
    by_remainder = np.argsort(quota - wanted, kind="stable")
    quota[by_remainder[: n - quota.sum()]] += 1
    return quota
