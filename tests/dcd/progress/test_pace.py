import pytest

from dcd.progress.pace import Pace, clock, rate


def test_the_time_left_follows_from_the_rate():
    pace = Pace("embed", 1_000, "images", started_s=100)
    pace.advance(200, now_s=110)
    assert pace.per_s(110) == 20
    assert pace.seconds_left(110) == 40
    assert pace.line(110) == "embed: 200 of 1,000 images, 20/s, 0:40 left".replace("0:40", "00:40")


def test_what_was_kept_at_the_beginning_does_not_count_for_ever():
    """Kept shards are done at once; a minute later the rate is that of the work."""
    pace = Pace("embed", 10_000, "images", started_s=0)
    pace.advance(5_000, now_s=0.1)
    for second in range(1, 100):
        pace.advance(10, now_s=second)
    assert pace.per_s(99) == pytest.approx(10, rel=0.02)


def test_a_stage_of_unknown_length_says_how_long_it_takes_already():
    pace = Pace("cluster by label", None, "", started_s=0)
    assert pace.line(75) == "cluster by label: 01:15 so far"


def test_what_turned_out_undone_is_taken_back():
    pace = Pace("embed", 10, "images", started_s=0)
    pace.advance(6, now_s=2)
    pace.advance(-6, now_s=3)
    assert pace.per_s(3) is None
    assert pace.seconds_left(3) is None


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120])
def test_a_line_fits_and_the_figures_go_last(width):
    pace = Pace("embed", 1_000, "images", started_s=0, note="a long note " * 6)
    pace.advance(500, now_s=10)
    line = pace.line(10, width, bar=True)
    assert len(line) <= width
    figures = "embed: 500 of 1,000 images, 50/s, 00:10 left"
    assert figures.startswith(line) if width < len(figures) else line.startswith(figures)
    assert ("━" in line) == (width >= 80)


def test_slow_rates_are_told_by_the_minute():
    assert (rate(1234.5), rate(2.34), rate(0.5)) == ("1,234/s", "2.3/s", "30.0/min")


def test_hours_and_days_are_told_where_there_are_some():
    assert (clock(59.6), clock(3_725), clock(90_000)) == ("01:00", "1:02:05", "1 day, 1:00:00")
