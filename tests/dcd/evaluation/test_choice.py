import numpy as np
import pytest

from dcd.evaluation.choice import Judged, choose_model, may_lose, smoothed

BASELINES = ("none", "whole_pool")


def right(n_right: int, n: int) -> np.ndarray:
    """The first n_right of n images: models that are better are right where others are too."""
    return np.arange(n) < n_right


def models(**of: tuple[int, int]) -> list[Judged]:
    """Of every name how many of 1000 images of val and of 100 failures are right."""
    return [
        Judged({name: 1.0}, right(val, 1000), right(dval, 100)) for name, (val, dval) in of.items()
    ]


def chosen(judged: list[Judged], objective) -> str:
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


def test_val_may_lose_the_margin_less_what_noise_may_hide():
    one = right(700, 1000)
    assert not may_lose(one, one)
    assert may_lose(right(690, 1000), one)
    assert not may_lose(right(69_700, 100_000), right(70_000, 100_000))  # 0.3 points, and sure
    swapped = np.r_[one[200:], one[:200]]  # as accurate, and another image right every fifth time
    assert may_lose(swapped, one)


def test_with_few_images_noise_asks_for_no_more_than_half_a_point():
    rng = np.random.default_rng(0)
    other = rng.random(60) < 0.7
    one = other.copy()
    one[:10] = ~one[:10]
    better = np.r_[np.ones(10, bool), one[10:]]
    assert not may_lose(better, np.r_[np.zeros(10, bool), other[10:]])
    assert not may_lose(np.r_[right(11, 20)], np.r_[right(10, 20)][::-1])


def test_a_gain_that_may_be_noise_does_not_pay_for_val():
    """whole_pool is better on val, and one failure of a hundred is no proof of anything."""
    near = models(none=(700, 60), whole_pool=(750, 75), targeted=(720, 76))
    near[2] = Judged({"targeted": 1.0}, near[2].val, near[2].failures[::-1])
    assert chosen(near, "failures_first") == "whole_pool"
    far = models(none=(700, 60), whole_pool=(750, 75), targeted=(720, 90))
    assert chosen(far, "failures_first") == "targeted"


def test_what_lies_between_is_judged_with_its_neighbours():
    shares = [{"none": 1.0}, {"none": 0.9, "targeted": 0.1}, {"none": 0.8, "targeted": 0.2}]
    judged = [
        Judged(one, right(50, 100), right(n, 100), "" if len(one) == 1 else "none to targeted")
        for one, n in zip(shares, (40, 90, 50), strict=True)
    ]
    scores = smoothed(judged, np.array([0.4, 0.9, 0.5]))
    np.testing.assert_allclose(scores, [0.4, 0.6, 0.7])


def test_the_reason_says_what_was_chosen_and_on_what():
    choice = choose_model(GIVEN, BASELINES, "failures_first")
    assert (
        "middle: the best on failures held out, of what is not worse than none on val"
        in choice.reason
    )
    assert "85.0 % of 100 images of the error sample, none 60.0" in choice.reason
    assert Judged({"a": 0.6, "b": 0.4}, right(1, 2), right(1, 2)).name == "0.6 a + 0.4 b"
