"""What `dcd run` prints at its end."""

import io

from rich.console import Console

from dcd.config import BASELINES
from dcd.evaluation.round_figures import RoundFigures
from dcd.evaluation.stats import Interval
from dcd.evaluation.summary import MethodSummary, Score
from dcd.report.record import RoundsRecord
from flows.cli.terminal import rounds_table, summary_table


def test_no_name_is_cut_on_a_terminal_of_80_columns():
    score = Score(Interval(0.83, 0.781, 0.88), None, None)
    methods = (*BASELINES, "selected")
    rows = tuple(
        MethodSummary(method, "baseline", 3, score, score, 48_100, 0.99) for method in methods
    )
    out = io.StringIO()
    Console(file=out, width=80).print(summary_table(rows))
    printed = out.getvalue()
    assert "…" not in printed
    for method in methods:
        row = next(line for line in printed.splitlines() if f" {method} " in line)
        assert row.count("83.0 (78.1–88.0)") == 2
        assert "48,100" in row


def test_a_long_name_of_a_users_selection_is_broken_and_not_cut():
    score = Score(Interval(1, 1, 1), None, None)
    name = "nearest_twenty_of_the_paper_with_agreement"
    row = MethodSummary(name, "baseline", 3, score, score, 48_100, 0.99)
    out = io.StringIO()
    Console(file=out, width=80).print(summary_table((row,)))
    cells = [line.split("│")[1].strip() for line in out.getvalue().splitlines() if "│" in line]
    assert "".join(cells) == name


def test_rounds_are_one_line_each_and_fit_a_terminal_of_80_columns():
    figures = tuple(
        RoundFigures(i, 1_000 - i, 500 * (i > 0), 500 * i, 0.5, 0.713, 0.6, 0.8, holds=True)
        for i in range(3)
    )
    record = RoundsRecord("accuracy of 90.0 % on debug_val", figures, 2, "rounds", ())
    out = io.StringIO()
    Console(file=out, width=80).print(rounds_table(record))
    lines = [line for line in out.getvalue().splitlines() if "71.3" in line]
    assert len(lines) == 3
    assert "none" in lines[0]
    assert all(word in lines[2] for word in ("998", "500", "1,000", "60.0", "80.0"))
    assert "…" not in out.getvalue()
