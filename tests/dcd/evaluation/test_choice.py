from statistics import NormalDist

import numpy as np
import pytest

from dcd.evaluation.choice import (
    UNKNOWN,
    Answers,
    Candidate,
    choose_model,
    least_level,
    margins,
    most_lost,
    smoothed,
    soft_right,
    standard_error,
)

BASELINES = ("none", "whole_pool")


def right(n_right: int, n: int) -> np.ndarray:
    """The first n_right of n images: models that are better are right where others are too."""
    return np.arange(n) < n_right


def models(**of: tuple[int, int]) -> list[Candidate]:
    """Of every name how many of 1000 images of val and of 100 failures are right."""
    return [
        Candidate({name: 1.0}, right(val, 1000), right(dval, 100))
        for name, (val, dval) in of.items()
    ]


def chosen(judged: list[Candidate], objective) -> str:
    return judged[choose_model(judged, BASELINES, objective).index].name


GIVEN = models(none=(700, 60), whole_pool=(750, 75), targeted=(690, 95), middle=(705, 85))


def test_failures_first_takes_the_best_on_failures_that_keeps_val():
    assert chosen(GIVEN, "failures_first") == "middle"


def test_both_takes_nothing_that_a_baseline_beats_on_either():
    assert chosen(GIVEN, "both") == "whole_pool"
    assert chosen([*GIVEN, *models(best=(750, 78))], "both") == "best"


def test_where_every_model_is_beaten_somewhere_both_takes_the_least_beaten():
    judged = models(none=(800, 50), whole_pool=(700, 90), targeted=(795, 85), other=(650, 95))
    assert chosen(judged, "both") == "targeted"


@pytest.mark.parametrize(("price", "name"), [(0, "targeted"), (2, "targeted"), (20, "whole_pool")])
def test_a_price_trades_one_for_the_other(price, name):
    assert chosen(GIVEN, price) == name


def test_a_tie_goes_to_what_is_better_on_val():
    assert chosen(models(none=(700, 60), targeted=(700, 90), safer=(720, 90)), 0) == "safer"


def test_val_must_surely_not_be_worse_as_far_as_the_baselines_show_it_to_be_possible():
    failures = right(50, 100)
    none = Candidate({"none": 1.0}, right(700, 1000), failures)
    better = Candidate({"whole_pool": 1.0}, right(750, 1000), failures)
    others = np.r_[none.val[200:], none.val[:200]]  # as accurate, and right on other images
    few = np.r_[none.val[5:], none.val[:5]]
    known = (none, better)
    assert least_level(none, none, known) == pytest.approx(0.7)
    swapped = Candidate({"targeted": 1.0}, others, failures)
    assert least_level(swapped, none, known) == pytest.approx(0.71)  # a point and no more
    assert 0.7 < least_level(Candidate({"targeted": 1.0}, few, failures), none, known) < 0.705
    no_better = Candidate({"whole_pool": 1.0}, right(690, 1000), failures)
    assert least_level(swapped, none, (none, no_better)) == pytest.approx(0.698)
    a_little = Candidate({"whole_pool": 1.0}, right(704, 1000), failures)
    assert least_level(swapped, none, (none, a_little)) == pytest.approx(0.702)


def test_of_few_images_of_val_more_may_be_luck():
    failures = right(50, 100)
    none = Candidate({"none": 1.0}, right(70, 100), failures)
    better = Candidate({"whole_pool": 1.0}, right(85, 100), failures)
    swapped = Candidate({"targeted": 1.0}, np.r_[none.val[20:], none.val[:20]], failures)
    sure = 0.7 + standard_error(swapped.val, none.val)
    assert sure > 0.76
    assert least_level(swapped, none, (none, better)) == pytest.approx(sure)


def test_both_overlooks_what_nobody_would_notice():
    """3 of 1000 images of val are no loss, 6 are one."""
    judged = models(none=(700, 60), whole_pool=(750, 75))
    near, far = models(near=(747, 80), far=(744, 90))
    assert chosen([*judged, near, far], "both") == "near"


def test_an_image_at_the_border_is_half_right():
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, -9.0], [0.0, 4.0, -9.0]])
    truth = np.array([0, 0, 0])
    np.testing.assert_allclose(margins(logits, truth), [2, 0, -4])
    sure = soft_right(logits, truth)
    assert sure[1] == 0.5
    assert sure[0] > 0.9
    assert sure[2] < 0.01
    np.testing.assert_allclose(sure, soft_right(100 * logits, truth))  # whatever the spread


def test_what_is_smoothed_is_what_models_are_compared_by():
    lucky = Candidate({"targeted": 1.0}, right(700, 1000), right(90, 100), soft=(0.7, 0.6))
    steady = Candidate({"middle": 1.0}, right(700, 1000), right(85, 100), soft=(0.7, 0.8))
    judged = [*models(none=(700, 60), whole_pool=(690, 55)), lucky, steady]
    assert chosen(judged, "failures_first") == "middle"


def test_a_gain_that_may_be_noise_does_not_pay_for_val():
    """whole_pool is better on val, and one failure of a hundred is no proof of anything."""
    near = models(none=(700, 60), whole_pool=(750, 75), targeted=(720, 76))
    near[2] = Candidate({"targeted": 1.0}, near[2].val, near[2].failures[::-1])
    assert chosen(near, "failures_first") == "whole_pool"
    far = models(none=(700, 60), whole_pool=(750, 75), targeted=(720, 90))
    assert chosen(far, "failures_first") == "targeted"


def test_what_lies_on_a_line_is_judged_by_the_parabola_through_it():
    alphas = np.linspace(0, 1, 11)
    truth = 0.5 + 0.4 * alphas - 0.3 * alphas**2
    luck = np.where(np.arange(11) == 3, 0.1, 0.0)  # one point of the line is lucky
    share = right(50, 100)
    judged = [Candidate({"none": 1.0}, share, share)]
    judged += [Candidate({"b": alpha}, share, share, "a to b", float(alpha)) for alpha in alphas]
    scores = smoothed(judged, np.r_[0.55, truth + luck])
    assert scores[0] == 0.55
    assert np.abs(scores[1:] - truth).max() < 0.04
    np.testing.assert_allclose(smoothed(judged, np.r_[0.55, truth])[1:], truth)


def test_the_reason_says_what_was_chosen_and_on_what():
    choice = choose_model(GIVEN, BASELINES, "failures_first")
    assert (
        "middle: the best on failures held out, of what is surely not worse than none on val"
        in choice.reason
    )
    assert "85.0 % of 100 images of error_sample, none 60.0" in choice.reason
    assert Candidate({"a": 0.6, "b": 0.4}, right(1, 2), right(1, 2)).name == "0.6 a + 0.4 b"


def test_a_share_below_nothing_is_taken_off():
    shares = {"error_sample": 0.5, "none": -0.5, "targeted": 1.0}
    name = Candidate(shares, right(1, 2), right(1, 2)).name
    assert name == "targeted + 0.5 error_sample - 0.5 none"


def test_what_a_model_says_of_val_tells_how_near_the_border_is_for_failures_too():
    val = Answers(np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), np.array([0, 1, 1]))
    failures = Answers(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 9.0]]), np.array([0, 0, UNKNOWN]))
    judged = Candidate.judged({"a": 1.0}, val, failures, "a to b", 0.0)
    np.testing.assert_array_equal(judged.val, [True, True, False])
    np.testing.assert_array_equal(judged.failures, [True, False, False])  # no model knows the last
    sure = float(soft_right(val.logits, val.truth).mean())
    assert judged.levels[0] == pytest.approx(sure)
    assert judged.levels[1] == pytest.approx(1 / 3)  # one as far inside as the other is outside


class Line:
    """Models on a line whose margins are known: between those of whole_pool and of targeted."""

    ALPHAS = np.linspace(0, 1, 11)

    def __init__(self, cost: float, n_val: int, seed: int):
        """cost: points of test that the far end loses, in 0…1; failures gain a good deal."""
        rng = np.random.default_rng(seed)
        self.val = self._drawn(rng, n_val, 0.7, 0.7 - cost)
        self.failures = self._drawn(rng, 100, 0.7, 0.85)

    def _drawn(self, rng: np.random.Generator, n: int, *right: float) -> np.ndarray:
        """(11, N) margins of images of which so many are right at either end."""
        common, own = rng.normal(size=n), rng.normal(size=(2, n))
        first, last = (
            0.9 * common + 0.44 * noise + NormalDist().inv_cdf(share)
            for noise, share in zip(own, right, strict=True)
        )
        return (1 - self.ALPHAS[:, None]) * first + self.ALPHAS[:, None] * last

    def judged(self) -> list[Candidate]:
        """`none` first, which is right nowhere; then the line."""
        found = [Candidate({"none": 1.0}, self.val[0] > 9, self.failures[0] > 9)]
        for i, alpha in enumerate(self.ALPHAS):
            of = {"whole_pool": 1 - alpha, "targeted": float(alpha)}
            shares = {end: share for end, share in of.items() if share}
            val, failures = (
                Answers(
                    np.stack([margin, np.zeros_like(margin)], axis=1), np.zeros(len(margin), int)
                )
                for margin in (self.val[i], self.failures[i])
            )
            found.append(Candidate.judged(shares, val, failures, "a line", float(alpha)))
        return found

    def chosen(self, built_on: str | None) -> float:
        judged = self.judged()
        choice = choose_model(judged, BASELINES, "both", built_on=built_on)
        return judged[choice.index].alpha


def test_what_is_built_on_a_baseline_goes_as_far_as_val_surely_allows():
    """200 images of val do not tell by themselves that the far end costs four points."""
    far = {
        on: [Line(0.04, 200, seed).chosen(on) for seed in range(40)] for on in (None, "whole_pool")
    }
    too_far = {on: np.mean(np.array(alphas) > 0.5) for on, alphas in far.items()}
    assert too_far[None] > 0.15 > 0.05 >= too_far["whole_pool"]
    assert np.mean(far["whole_pool"]) > 0.1  # nor is that a reason to stay


def test_with_many_images_of_val_what_costs_nothing_is_taken_to_its_end():
    assert Line(-0.01, 5000, 0).chosen("whole_pool") > 0.8
    assert Line(0.1, 5000, 0).chosen("whole_pool") < 0.3


def test_most_lost_is_what_a_baseline_may_be_ahead():
    of = Line(0.04, 4000, 1).judged()
    first, last = of[1], of[-1]
    assert most_lost(first, first) == 0
    gap = first.levels[0] - last.levels[0]
    assert gap < most_lost(last, first) < gap + 0.02
    plain = Candidate(last.shares, last.val, last.failures)
    sure = 1.645 * standard_error(plain.val, first.val)
    bare = Candidate(first.shares, first.val, first.failures)
    assert most_lost(plain, bare) == pytest.approx(bare.val.mean() - plain.val.mean() + sure)
