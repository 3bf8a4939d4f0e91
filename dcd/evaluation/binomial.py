"""Tails and quantiles of the binomial distribution, without the second that scipy.stats imports."""

_ROUNDING = 1e-14  # of a probability


def at_least(k: int, n: int, p: float) -> float:
    """Return the probability of k or more of n, each of which comes with probability p."""
    from scipy.special import bdtrc

    return 1.0 if k <= 0 else float(bdtrc(k - 1, n, p))


def quantile(level: float, n: int, p: float) -> int:
    """Return the smallest k with a probability of at least `level` that there are k or fewer."""
    from scipy.special import bdtr

    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if float(bdtr(middle, n, p)) >= level - _ROUNDING:
            high = middle
        else:
            low = middle
    return high
