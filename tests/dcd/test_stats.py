import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcd.errors import DataError
from dcd.stats import bootstrap_mean, over_seeds, paired_difference


def _outcomes(n: int, n_right: int) -> np.ndarray:
    return np.arange(n) < n_right


def test_the_exact_interval_is_what_resampled_indices_give():
    correct = _outcomes(137, 101)
    rng = np.random.default_rng(0)
    resampled = correct[rng.integers(137, size=(50_000, 137))].mean(axis=1)
    interval = bootstrap_mean(correct)
    assert interval.value == pytest.approx(101 / 137)
    expected = np.quantile(resampled, [0.025, 0.975], method="inverted_cdf")
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1 / 137)


@given(n=st.integers(1, 400), share=st.floats(0, 1))
def test_an_interval_holds_its_value(n: int, share: float):
    interval = bootstrap_mean(_outcomes(n, round(n * share)))
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        interval = bootstrap_mean(rng.random(300) < 0.7)
        held += interval.low <= 0.7 <= interval.high
    assert 0.93 <= held / 1000 <= 0.97


def test_over_seeds_weighs_seeds_equally_and_widens_with_their_spread():
    alike = over_seeds([_outcomes(100, 60), _outcomes(300, 180), _outcomes(100, 60)])
    apart = over_seeds([_outcomes(100, 50), _outcomes(300, 180), _outcomes(100, 70)])
    assert alike.value == apart.value == pytest.approx(0.6)
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    easy = rng.random(500) < 0.6
    reference = [easy]
    candidate = [easy | (rng.random(500) < 0.1)]
    paired = paired_difference(candidate, reference)
    unpaired = [bootstrap_mean(c[0]) for c in (candidate, reference)]
    assert paired.value == pytest.approx(unpaired[0].value - unpaired[1].value)
    assert paired.low > 0
    assert paired.high - paired.low < 0.6 * sum(i.high - i.low for i in unpaired) / 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=4))
def test_a_model_against_itself_differs_by_nothing(sizes: list[tuple[int, int]]):
    outcomes = [_outcomes(n, min(n, k)) for n, k in sizes]
    interval = paired_difference(outcomes, outcomes)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_results_repeat_for_a_seed():
    outcomes = [_outcomes(50, 20), _outcomes(60, 40)]
    assert over_seeds(outcomes, seed=3) == over_seeds(outcomes, seed=3)
    assert over_seeds(outcomes, seed=3) != over_seeds(outcomes, seed=4)


def test_nothing_to_count_is_an_error():
    with pytest.raises(DataError, match="no evaluated images"):
        bootstrap_mean(np.array([]))
    with pytest.raises(DataError, match="same images"):
        paired_difference([_outcomes(3, 1)], [_outcomes(4, 1)])
