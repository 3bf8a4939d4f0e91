"""Show what a run found in the terminal: the summary table, that of a goal's rounds."""

from dcd.evaluation.summary import MethodSummary, Score
from dcd.report.record import RoundsRecord
from flows.cli.show.tables import Table

_NAME_WIDTH = 15  # of the longest built-in name


def summary_table(rows: tuple[MethodSummary, ...]) -> Table:
    """Make the comparison's table: per cent, mean over seeds ± standard deviation."""
    table = Table(title="Accuracy in %, mean over seeds (95 % interval)", title_justify="left")
    widest = max((len(row.method) for row in rows), default=0)
    table.add_column("added to train", min_width=min(widest, _NAME_WIDTH))
    # Two lines a heading where that keeps a terminal of 80 columns from cutting the names.
    for heading in ("debug_heldout", "test", "right\nlabels", "images\nadded"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.method,
            _score(row.debug_heldout),
            _score(row.test),
            "–" if row.label_precision is None else f"{row.label_precision:.0%}",
            "–" if row.n_picks is None else f"{row.n_picks:,.0f}",
            style="bold" if row.role == "selected" else None,
        )
    return table


def rounds_table(rounds: RoundsRecord) -> Table:
    """Make the table of a goal's rounds: per cent, means over seeds."""
    table = Table(title=f"Rounds to {rounds.goal}", title_justify="left")
    for heading in ("round", "asked", "taken", "so far", "debug_val", "debug_heldout", "test"):
        table.add_column(heading, justify="right")
    for of in rounds.figures:
        counts = ("–",) if of.number == 0 else (f"{of.n_asked:,.0f}",)
        shares = (f"{100 * share:.1f}" for share in (of.debug_val, of.debug_heldout, of.test))
        table.add_row(
            "none" if of.number == 0 else str(of.number),
            *counts,
            f"{of.n_new:,.0f}",
            f"{of.n_taken:,.0f}",
            *shares,
            style="bold" if of.number == rounds.chosen else None,
        )
    return table


def _score(score: Score) -> str:
    found = score.accuracy
    return f"{100 * found.value:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f})"
