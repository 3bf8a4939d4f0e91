"""Count images that belong together as what they are: less than as many independent ones.

Frames of one burst are right or wrong together. Taken for independent images they make an interval
too narrow and a test too sure of itself (Kish 1965, "Survey Sampling", ch. 5).
"""

import numpy as np

from dcd.evaluation import binomial

Groups = np.ndarray | None  # (N,) int: images with the same number belong together; None: none do


def group_sums(values: np.ndarray, groups: Groups) -> np.ndarray:
    """Add (N,) values up by group: (G,) float."""
    if groups is None:
        return np.asarray(values, float)
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=np.asarray(values, float))


def design_effect(values: np.ndarray, groups: Groups) -> float:
    """Return how many times the variance of the mean of (N,) values is that of independent ones.

    From the sums of whole groups about the mean; at least 1, at most N. One group alone tells
    nothing of how groups differ: N.
    """
    n = len(values)
    if groups is None or n < 2:
        return 1.0
    residuals = np.asarray(values, float) - np.mean(values)
    alone = float(residuals @ residuals)
    sums = group_sums(residuals, groups)
    if len(sums) == n or alone == 0:
        return 1.0
    if len(sums) == 1:
        return float(n)
    together = float(sums @ sums) * len(sums) / (len(sums) - 1)
    return min(float(n), max(1.0, together / (alone * n / (n - 1))))


def effective_n(values: np.ndarray, groups: Groups) -> int:
    """Return how many independent images tell as much about the mean as these (N,) do."""
    return max(1, int(len(values) / design_effect(values, groups)))


def sign_test(n_gained: int, n_lost: int) -> float:
    """Return the one-sided p-value of "the candidate is no better" (McNemar 1947, exact).

    n_gained, n_lost: independent images that only the candidate, or only the other one, gets right.
    A candidate that is no better gets each with probability at most ½, so the test never exceeds
    its level, whatever their number.
    """
    return binomial.at_least(n_gained, n_gained + n_lost, 0.5)


def sign_flip(changes: np.ndarray, groups: Groups) -> float:
    """Return the one-sided p-value of "the candidate is no better", groups being flipped as wholes.

    changes: (N,) in -1, 0, 1: what the candidate won or lost. Exact: the share of all ways to give
    the sums of the groups a sign that gain as much or more. Of images that stand alone it is
    `sign_test`.
    """
    sums = group_sums(changes, groups).round().astype(int)
    gained = int(sums.sum())
    sizes = np.abs(sums[sums != 0])
    if len(sizes) == 0:
        return 1.0
    if sizes.max() == 1:
        return sign_test(int((sums > 0).sum()), int((sums < 0).sum()))
    # shares[t]: of the sums that are positive adding up to t, of those looked at so far.
    total = int(sizes.sum())
    shares = np.zeros(total + 1)
    shares[0] = 1.0
    for size in sizes:
        shifted = np.zeros_like(shares)
        shifted[size:] = shares[: total + 1 - size]
        shares = (shares + shifted) / 2
    return float(min(1.0, shares[(total + gained) // 2 :].sum()))
