import numpy as np
import pytest
from scipy.stats import binom

from dcd.evaluation import binomial


@pytest.mark.parametrize("n", [1, 7, 100, 10_000])
@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.999, 1.0])
def test_tails_and_quantiles_are_scipys(n: int, p: float):
    for k in np.unique([0, 1, n // 2, n - 1, n, n + 1]):
        assert binomial.at_least(int(k), n, p) == pytest.approx(binom.sf(k - 1, n, p), abs=1e-12)
    for level in (0.025, 0.5, 0.975):
        assert binomial.quantile(level, n, p) == max(0, binom.ppf(level, n, p))


def test_none_of_none_is_certain():
    assert binomial.at_least(0, 0, 0.5) == 1
