import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from dcd.evaluation.bursts import design_effect, effective_n, sign_flip, sign_test
from dcd.evaluation.stats import (
    bootstrap_mean,
    non_inferiority,
    over_seeds,
    paired_counts,
    paired_difference,
)

BURST = 10


def burst_outcomes(rng: np.random.Generator, n_bursts: int, share: float) -> np.ndarray:
    """Right or wrong together, burst by burst, but for one frame in ten."""
    whole = np.repeat(rng.random(n_bursts) < share, BURST)
    return np.where(rng.random(len(whole)) < 0.1, rng.random(len(whole)) < share, whole)


def burst_groups(n_bursts: int) -> np.ndarray:
    return np.repeat(np.arange(n_bursts), BURST)


def test_images_that_stand_alone_are_as_they_were():
    rng = np.random.default_rng(0)
    right, other = rng.random(200) < 0.7, rng.random(200) < 0.6
    alone = np.arange(200)[::-1].copy()
    assert design_effect(right, alone) == 1
    assert bootstrap_mean(right, groups=alone) == bootstrap_mean(right)
    assert over_seeds([right], groups=[alone]) == over_seeds([right])
    assert paired_difference([right], [other], groups=[alone]) == paired_difference(
        [right], [other]
    )
    assert paired_counts(right, other, alone) == paired_counts(right, other)


def test_copies_of_one_image_count_once():
    right = np.repeat(np.arange(50) < 30, BURST)
    assert effective_n(right, burst_groups(50)) == pytest.approx(50, abs=2)
    assert effective_n(right, np.zeros(500, int)) == 1


def test_the_sign_test_is_mcnemars_exact_test_and_keeps_its_level():
    expected = binomtest(10, 12, alternative="greater").pvalue
    assert sign_test(10, 2) == pytest.approx(expected)
    assert sign_test(0, 0) == 1
    same = np.random.default_rng(0).multinomial(100, [0.1, 0.1, 0.8], size=3000)
    assert np.mean([sign_test(gained, lost) <= 0.05 for gained, lost, _ in same.tolist()]) <= 0.05


def test_the_sign_flip_of_single_images_is_mcnemars_test():
    rng = np.random.default_rng(1)
    changes = rng.integers(-1, 2, 60)
    assert sign_flip(changes, None) == sign_test(int((changes > 0).sum()), int((changes < 0).sum()))
    assert sign_flip(changes, np.arange(60)) == sign_flip(changes, None)


def test_the_sign_flip_counts_all_ways_to_sign_the_groups():
    changes = np.array([1, 1, 1, -1, -1, 0, 1, 1, -1, 1])
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 4])
    sums = [3, -2, 2, -1, 1]
    ways = list(itertools.product((1, -1), repeat=5))
    as_good = [w for w in ways if sum(a * abs(b) for a, b in zip(w, sums, strict=True)) >= 3]
    assert sign_flip(changes, groups) == pytest.approx(len(as_good) / len(ways))


def test_nothing_changed_proves_nothing():
    assert sign_flip(np.zeros(5, int), np.array([0, 0, 1, 1, 2])) == 1


def test_intervals_of_bursts_cover_the_truth():
    """Taken for independent, the same images give an interval that covers it in two of three."""
    rng = np.random.default_rng(2)
    groups, known, unknown = burst_groups(40), 0, 0
    for _ in range(400):
        right = burst_outcomes(rng, 40, 0.7)
        covers = [bootstrap_mean(right, groups=g) for g in (groups, None)]
        known += covers[0].low <= 0.7 <= covers[0].high
        unknown += covers[1].low <= 0.7 <= covers[1].high
    assert known / 400 >= 0.91
    assert unknown / 400 <= 0.75


def test_differences_of_bursts_cover_the_truth():
    rng = np.random.default_rng(3)
    groups, held = burst_groups(60), 0
    for trial in range(200):
        before, after = (burst_outcomes(rng, 60, 0.7) for _ in range(2))
        found = paired_difference([after], [before], trial, 500, groups=[groups])
        held += found.low <= 0 <= found.high
    assert held / 200 >= 0.9


@pytest.mark.parametrize("test", ["improvement", "non-inferiority"])
def test_worthless_candidates_pass_as_often_as_the_level_says(test: str):
    rng = np.random.default_rng(4)
    groups, passed = burst_groups(60), {"known": 0, "unknown": 0}
    for _ in range(500):
        before = burst_outcomes(rng, 60, 0.7)
        after = burst_outcomes(rng, 60, 0.7 if test == "improvement" else 0.65)
        for name, given in (("known", groups), ("unknown", None)):
            if test == "improvement":
                p = sign_flip(after.astype(int) - before.astype(int), given)
            else:
                p = non_inferiority(paired_counts(after, before, given), 0.05)
            passed[name] += p <= 0.05
    assert passed["known"] / 500 <= 0.085
    assert passed["unknown"] / 500 >= 0.15
