from dataclasses import replace

from dcd.evaluation.round_figures import RoundFigures
from dcd.report.page import render
from dcd.report.record import RoundsRecord
from dcd.report.rounds_figure import rounds_curve
from tests.dcd.report.run_records import HOSTILE, record

FIGURES = tuple(
    RoundFigures(i, 9 - i, 5 * (i > 0), 5 * i, 0.5 + 0.1 * i, 0.5 + 0.1 * i, 0.5, 0.8, holds=True)
    for i in range(4)
)


def test_the_curve_says_every_round_and_is_the_same_for_the_same_rounds():
    drawn = rounds_curve(FIGURES, 2)
    assert drawn == rounds_curve(FIGURES, 2)
    assert "round 3: debug_val 80.0 %, debug_heldout 50.0 %, test 80.0 %, 15 images" in drawn
    assert "chosen: round 2" in drawn
    for name in ("debug_val", "debug_heldout", "test"):  # as text, too, where lines end high
        assert f">{name}</text>" in drawn
    assert rounds_curve(FIGURES, 3) != drawn


def test_the_page_shows_rounds_where_there_are_some_and_escapes_a_label():
    of_rounds = RoundsRecord(f"recall of {HOSTILE}", FIGURES, 2, "rounds", ("Stopped after 3.",))
    page = render(replace(record(), rounds=of_rounds), lambda shown: {})
    section = page.split('id="rounds"')[1].split("</section>")[0]
    assert "Stopped after 3." in section
    assert section.count('<th scope="row">') == len(FIGURES)
    assert HOSTILE not in page
    assert 'id="rounds"' not in render(record(), lambda shown: {})
