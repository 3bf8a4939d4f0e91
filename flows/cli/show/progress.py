"""Show the stages of a command: live lines on a terminal, a few plain ones in a log.

Both go to standard error. rich's live display is imported when a stage begins, so that a command
without stages does not pay for it.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from dcd.progress import live
from dcd.progress.pace import Pace, clock

if TYPE_CHECKING:
    from rich.live import Live

_REDRAWS_PER_S = 4
_WORTH_A_LINE_S = 1.0  # a stage that ends sooner leaves none on a terminal
_FIRST_LINE_S, _LINE_EVERY_S = 5.0, 30.0  # in a log
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class _Paces:
    """What both listeners know: the stages that are under way, and how far they are."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}
        self._lock = threading.RLock()  # a live display draws at once

    def advanced(self, stage: str, n: int) -> None:
        with self._lock:
            if stage in self._paces:
                self._paces[stage].advance(n, time.monotonic())

    def noted(self, stage: str, note: str) -> None:
        with self._lock:
            if stage in self._paces:
                self._paces[stage].note = note


class Bars(_Paces):
    """A progress listener that draws one line a stage. Use as a context manager.

    A stage that took a while leaves a line with its outcome.
    """

    def __init__(self, console: Console, worth_a_line_s: float = _WORTH_A_LINE_S):
        super().__init__()
        self._console = console
        self._worth_a_line_s = worth_a_line_s
        self._drawn: Live | None = None

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._paces.clear()
            drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn.stop()

    def started(self, stage: str, total: int | None, unit: str) -> None:
        from rich.live import Live

        with self._lock:
            self._paces[stage] = Pace(stage, total, unit, time.monotonic())
            first = self._drawn is None
            if first:
                self._drawn = Live(
                    console=self._console,
                    get_renderable=self._lines,
                    refresh_per_second=_REDRAWS_PER_S,
                    transient=True,
                    # What goes to a file or a pipe must not end up between the lines here.
                    redirect_stdout=sys.stdout.isatty(),
                )
            drawn = self._drawn
        if first and drawn is not None:
            drawn.start(refresh=True)

    def finished(self, stage: str, outcome: str) -> None:
        idle = None
        with self._lock:
            pace = self._paces.pop(stage, None)
            if not self._paces:  # results may be written to the same terminal now
                idle, self._drawn = self._drawn, None
        if idle is not None:
            idle.stop()
        took = 0.0 if pace is None else time.monotonic() - pace.started_s
        if took >= self._worth_a_line_s:
            line = Text.assemble(("✓", "green"), f" {_ended(stage, outcome, took)}")
            self._console.print(line, soft_wrap=True)

    def _lines(self) -> Group:
        now = time.monotonic()
        turn = _SPINNER[int(now * 10) % len(_SPINNER)]
        width = self._console.width - 3  # a terminal may break a line that is quite full
        with self._lock:
            lines = [pace.line(now, width, bar=True) for pace in self._paces.values()]
        return Group(*(Text(f"{turn} {line}", no_wrap=True) for line in lines))


class PlainLines(_Paces):
    """A progress listener for logs: a line when a stage is long, and every half a minute after.

    write: takes a line; it may be called from a thread of its own. Use as a context manager.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        first_s: float = _FIRST_LINE_S,
        every_s: float = _LINE_EVERY_S,
    ):
        super().__init__()
        self._write = write
        self._first_s, self._every_s = first_s, every_s
        self._due: dict[str, float] = {}
        self._told: set[str] = set()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()

    def started(self, stage: str, total: int | None, unit: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._paces[stage] = Pace(stage, total, unit, now)
            self._due[stage] = now + self._first_s
            self._told.discard(stage)
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
                self._ticker.start()

    def finished(self, stage: str, outcome: str) -> None:
        with self._lock:
            pace = self._paces.pop(stage, None)
            if pace is not None and stage in self._told:
                self._write(_ended(stage, outcome, time.monotonic() - pace.started_s))

    def tell(self, now_s: float) -> None:
        """Write the lines that are due by now."""
        with self._lock:
            for stage, pace in self._paces.items():
                if now_s >= self._due[stage]:
                    self._due[stage] = now_s + self._every_s
                    self._told.add(stage)
                    self._write(pace.line(now_s))

    def _tick(self) -> None:
        while not self._ended.wait(min(1.0, self._first_s)):
            self.tell(time.monotonic())


@contextmanager
def progress_shown(console: Console, *, verbose: bool = False) -> Iterator[None]:
    """Show progress on standard error, as befits it: live on a terminal, else a few plain lines.

    verbose: another log is written there too, so no live lines.
    """
    terminal = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    shown = Bars(console) if terminal and not verbose else PlainLines(_to_log)
    with shown:
        live.listen(shown)
        try:
            yield
        finally:
            live.hush()


def _to_log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ended(stage: str, outcome: str, took_s: float) -> str:
    return f"{stage}: {outcome} ({clock(took_s)})"
