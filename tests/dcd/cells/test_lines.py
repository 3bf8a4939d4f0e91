import pytest

from dcd.cells.lines import AIMED, BASELINES, LINES, Line, Point, line_of, points
from dcd.evaluation.choice import mixture_name


def test_all_shares_have_the_sum_one_and_lie_on_their_line():
    assert all(sum(point.shares.values()) == pytest.approx(1) for point in points())
    assert all(point.shares.keys() <= set(line_of(point).ends) for point in points())
    alone = [dict(point.shares) for point in points() if point.line is None]
    assert alone == [{name: 1.0} for name in (*BASELINES, "targeted")]


def test_a_line_goes_from_one_end_to_the_other():
    line = Line({"whole_pool": 1.0}, {"targeted": 1.0})
    assert line.at(0.0) == {"whole_pool": 1.0}
    assert line.at(0.2) == {"targeted": 0.2, "whole_pool": 0.8}
    assert line.at(1.0) == {"targeted": 1.0}


def test_a_line_from_a_mixture():
    line = next(line for line in LINES if len(line.first) == 2)
    assert line.names == ("0.5 error_sample + 0.5 whole_pool", mixture_name(AIMED))
    assert line.at(0.6) == {"error_sample": 0.5, "targeted": 0.6, "whole_pool": 0.2, "none": -0.3}


def test_a_baseline_alone_is_shown_on_a_line_that_begins_with_it():
    assert line_of(Point({"whole_pool": 1.0})).names == ("whole_pool", mixture_name(AIMED))
    assert line_of(Point({"targeted": 1.0})).names == ("targeted", "whole_pool")
    assert line_of(Point({"none": 1.0})).names == ("none", "whole_pool")


def test_every_model_that_is_shown_was_judged():
    judged = {mixture_name(point.shares) for point in points()}
    shown = [line_of(point) for point in points()]
    assert {mixture_name(line.at(alpha)) for line in shown for alpha in line.alphas} <= judged
