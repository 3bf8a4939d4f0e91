import pytest

from dcd.cells.lines import ENDS, LINES, Line, line_of, points


def test_all_shares_have_the_sum_one_and_lie_on_their_line():
    shares = [shares for _, shares in points()]
    assert all(sum(one.values()) == pytest.approx(1) for one in shares)
    assert all(one.keys() <= set(line_of(one).ends) for one in shares if "none" not in one)
    assert len({tuple(sorted(one.items())) for one in shares}) == len(shares)
    assert [shares[i] for i in range(len(ENDS))] == [{end: 1.0} for end in ENDS]


def test_a_line_leads_on_beyond_its_second_end():
    line = Line({"whole_pool": 1.0}, {"targeted": 1.0}, furthest=1.2)
    assert line.alphas == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]
    assert line.at(1.2) == {"targeted": 1.2, "whole_pool": -0.2}
    assert line.at(1.0) == {"targeted": 1.0}


def test_a_line_from_a_mixture():
    line = next(line for line in LINES if len(line.first) == 2)
    assert line.names == ("0.5 error_sample + 0.5 whole_pool", "targeted")
    assert line.at(0.6) == {"error_sample": 0.2, "targeted": 0.6, "whole_pool": 0.2}
    assert line_of(line.at(0.6)) == line


def test_an_end_is_shown_on_the_line_to_targeted():
    assert line_of({"whole_pool": 1.0}).names == ("whole_pool", "targeted")
    assert line_of({"none": 1.0}).names == ("none", "whole_pool")
