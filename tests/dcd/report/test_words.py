import pytest

from dcd.evaluation.stats import Interval
from dcd.report.words import change, mode_name, percent, points


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.1, 0.01, 0.2), "rose"),
        (Interval(0.1, 0.0, 0.2), "unclear"),
        (Interval(-0.1, -0.2, 0.0), "unclear"),
        (Interval(-0.1, -0.2, -0.01), "fell"),
    ],
)
def test_only_an_interval_without_zero_is_a_change(interval: Interval, expected: str):
    assert change(interval) == expected


def test_figures_are_written_with_one_decimal_and_a_true_minus():
    assert percent(0.6054) == "60.5 %"
    assert [points(x) for x in (0.198, -0.0041, 0.0004, -0.0004)] == ["+19.8", "−0.4", "0.0", "0.0"]


def test_a_mode_is_named_by_what_is_known():
    names = [mode_name("2", "deer"), mode_name("night", None), mode_name(None, "deer")]
    assert names == ["deer, mode 2", "mode night", "deer"]


def test_a_mode_that_names_its_label_is_not_named_twice():
    assert mode_name("deer at night", "deer") == "deer at night"
    assert mode_name("reindeer", "deer") == "deer, mode reindeer"
    assert mode_name("10", "1") == "1, mode 10"
