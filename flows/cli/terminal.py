"""Show what a person sees in the terminal: progress bars, the summary table, errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from dcd.evaluation.summary import MethodSummary, Score
from dcd.report.record import RoundsRecord
from flows.cli.console import plain_console
from tasks import progress

_NAME_WIDTH = 15  # of the longest built-in name


class Bars:
    """A progress listener that draws one bar a stage. Use as a context manager."""

    def __init__(self, console: Console):
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, stage: str, total: int | None, unit: str) -> None:
        self._bars[stage] = self._progress.add_task(stage, total=total, note=unit)

    def advanced(self, stage: str, n: int) -> None:
        if stage in self._bars:
            self._progress.advance(self._bars[stage], n)

    def noted(self, stage: str, note: str) -> None:
        if stage in self._bars:
            self._progress.update(self._bars[stage], note=note)

    def finished(self, stage: str, outcome: str) -> None:
        bar = self._bars.pop(stage)
        task = next(t for t in self._progress.tasks if t.id == bar)
        total = task.total or task.completed or 1
        self._progress.update(bar, total=total, completed=total, note=outcome)


@contextmanager
def live_bars(verbose: bool) -> Iterator[None]:
    """Show bars on a terminal; nothing in a pipe, or where Prefect's log is shown instead."""
    errors = plain_console(stderr=True)
    if verbose or not errors.is_terminal:
        yield
        return
    with Bars(errors) as bars:
        progress.listen(bars)
        yield


def summary_table(rows: tuple[MethodSummary, ...]) -> Table:
    """Make the comparison's table: per cent, mean over seeds ± standard deviation."""
    table = Table(title="Accuracy in %, mean over seeds (95 % interval)", title_justify="left")
    # A name may be broken, where nothing else fits, and is never cut.
    widest = max((len(row.method) for row in rows), default=0)
    table.add_column("added to train", overflow="fold", min_width=min(widest, _NAME_WIDTH))
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
