import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm

from dcd.errors import DataError
from dcd.evaluation.bursts import sign_test
from dcd.evaluation.stats import (
    PairedCounts,
    bootstrap_mean,
    holm,
    images_for_improvement,
    images_for_non_inferiority,
    lower_bound,
    non_inferiority,
    over_seeds,
    paired_counts,
    paired_difference,
)


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


def _tango_by_likelihood(counts: PairedCounts, delta: float) -> float:
    """Tango's statistic with the nuisance share found by numerical maximisation."""
    same = counts.n - counts.gained - counts.lost

    def minus_log_likelihood(q: float) -> float:
        return -(
            xlogy(counts.gained, q + delta) + xlogy(counts.lost, q) + xlogy(same, 1 - 2 * q - delta)
        )

    found = minimize_scalar(
        minus_log_likelihood,
        bounds=(max(0.0, -delta), (1 - delta) / 2),
        method="bounded",
        options={"xatol": 1e-12},
    )
    variance = counts.n * (2 * found.x + delta * (1 - delta))
    return (counts.gained - counts.lost - counts.n * delta) / np.sqrt(variance)


@pytest.mark.parametrize(
    ("counts", "margin"),
    [
        (PairedCounts(100, 9, 6), 0.05),
        (PairedCounts(1000, 3, 9), 0.005),
        (PairedCounts(50, 1, 20), 0.3),
        (PairedCounts(300, 40, 2), 0.1),
    ],
)
def test_non_inferiority_is_the_score_test(counts: PairedCounts, margin: float):
    expected = norm.sf(_tango_by_likelihood(counts, -margin))
    assert non_inferiority(counts, margin) == pytest.approx(expected, rel=1e-4)


def test_the_lower_bound_is_where_the_test_turns():
    counts = PairedCounts(9500, 210, 230)
    bound = lower_bound(counts)
    assert bound < counts.difference
    assert non_inferiority(counts, -bound) == pytest.approx(0.05)


def test_a_published_interval_is_met():
    """Fagerland, Lydersen & Laake 2017, ch. 8: 21 pairs, 1 and 7 discordant: -0.517 to -0.026."""
    low = lower_bound(PairedCounts(21, gained=1, lost=7), 0.975)
    high = -lower_bound(PairedCounts(21, gained=7, lost=1), 0.975)
    assert (low, high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(n=st.integers(1, 500), data=st.data())
def test_the_lower_bound_is_below_the_difference(n: int, data: st.DataObject):
    gained = data.draw(st.integers(0, n))
    counts = PairedCounts(n, gained, data.draw(st.integers(0, n - gained)))
    assert -1 <= lower_bound(counts) <= counts.difference


def test_the_score_test_keeps_its_level():
    """At the border of the hypothesis it rejects in about 5 % of experiments."""
    rng = np.random.default_rng(0)
    n, margin = 2000, 0.005
    worse = rng.multinomial(n, [0.03, 0.035, 0.935], size=3000)
    rejected = [
        non_inferiority(PairedCounts(n, int(g), int(lo)), margin) <= 0.05 for g, lo, _ in worse
    ]
    assert 0.035 <= np.mean(rejected) <= 0.062


def test_paired_counts_count_what_only_one_gets_right():
    candidate, reference = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 1, 0, 0])
    assert paired_counts(candidate, reference) == PairedCounts(5, gained=2, lost=1)
    with pytest.raises(DataError, match="same images"):
        paired_counts(candidate, reference[:3])


def test_holm_is_holms_step_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.9]) == [1, 1]
    assert holm([]) == []


def test_the_number_of_images_gives_the_power_that_it_promises():
    """Drawn anew with that many images, four of five trials pass."""
    rng = np.random.default_rng(0)
    seen = PairedCounts(1000, 62, 58)
    n = images_for_non_inferiority(seen, 0.005)
    assert n is not None
    assert n > seen.n
    trials = rng.multinomial(n, [0.062, 0.058, 0.88], size=1000)
    passed = [non_inferiority(PairedCounts(n, int(g), int(b)), 0.005) <= 0.05 for g, b, _ in trials]
    assert 0.75 < np.mean(passed) < 0.85

    better = PairedCounts(100, 20, 12)
    m = images_for_improvement(better)
    assert m is not None
    trials = rng.multinomial(m, [0.2, 0.12, 0.68], size=1000)
    passed = [sign_test(gained, lost) <= 0.05 for gained, lost, _ in trials.tolist()]
    assert 0.74 < np.mean(passed) < 0.86


@pytest.mark.parametrize("design_effect", [1, 3.5])
def test_what_is_refused_needs_more_images_than_it_had(design_effect):
    for gained, lost in ((0, 0), (1, 0), (0, 1), (7, 7), (40, 42)):
        for n in (50, 300, 538):
            counts = PairedCounts(n, gained, lost, design_effect)
            needed = images_for_non_inferiority(counts, 0.005)
            if non_inferiority(counts, 0.005) > 0.05 and needed is not None:
                assert needed > n
    assert images_for_non_inferiority(PairedCounts(56, 0, 0), 0.005) == 539


def test_no_number_of_images_shows_what_is_not_there():
    assert images_for_non_inferiority(PairedCounts(1000, 10, 20), 0.005) is None
    assert images_for_improvement(PairedCounts(100, 5, 5)) is None
