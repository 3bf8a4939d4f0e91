import numpy as np
import pytest

from dcd.evaluation.choice import Judged, choose_model, is_worse, smoothed

BASELINES = ("none", "whole_pool")


def right(n_right: int, n: int) -> np.ndarray:
    """The first n_right of n images: models that are better are right where others are too."""
    return np.arange(n) < n_right


def models(**of: tuple[int, int]) -> list[Judged]:
    """Of every name how many of 1000 images of val and of 100 of debug_val are right."""
    return [
        Judged({name: 1.0}, right(val, 1000), right(dval, 100)) for name, (val, dval) in of.items()
    ]


def chosen(judged: list[Judged], objective) -> str:
    return judged[choose_model(judged, BASELINES, objective).index].name


GIVEN = models(none=(700, 60), whole_pool=(750, 75), targeted=(690, 95), middle=(705, 85))


def test_failures_first_takes_the_best_on_debug_val_that_keeps_val():
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


def test_what_noise_would_leave_is_not_worse():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 100)) < 0.7
    assert not is_worse(one, one)
    assert is_worse(right(60, 100), right(90, 100))
    assert not is_worse(right(5990, 10_000), right(6000, 10_000))  # a tenth of a point
    behind = other.mean() - one.mean()
    assert is_worse(one, other) == (behind > 0.75 * np.std(one.astype(float) - other) / 10)


def test_what_lies_between_is_judged_with_its_neighbours():
    shares = [{"none": 1.0}, {"none": 0.9, "targeted": 0.1}, {"none": 0.8, "targeted": 0.2}]
    judged = [
        Judged(one, right(50, 100), right(n, 100))
        for one, n in zip(shares, (40, 90, 50), strict=True)
    ]
    scores = smoothed(judged, np.array([0.4, 0.9, 0.5]))
    np.testing.assert_allclose(scores, [0.4, 0.6, 0.7])


def test_the_reason_says_what_was_chosen_and_on_what():
    choice = choose_model(GIVEN, BASELINES, "failures_first")
    assert "middle: the best on debug_val of what is not worse than none on val" in choice.reason
    assert "85.0 % of 100 images of debug_val, none 60.0" in choice.reason
    assert Judged({"a": 0.6, "b": 0.4}, right(1, 2), right(1, 2)).name == "0.6 a + 0.4 b"
