"""How fast a stage goes, how long it will take, and a line that says so. Pure."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta

_WINDOW_S = 60.0  # the rate is that of the last minute: what was kept is done at once, and first
_MIN_SPAN_S = 1.0  # before that a rate says nothing
_BAR = 20


@dataclass
class Pace:
    """What is done of a stage. All times are seconds of one steady clock.

    total: units of work, None if not known. note: where the current unit stands.
    """

    name: str
    total: int | None
    unit: str
    started_s: float
    done: int = 0
    note: str = ""
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._seen.append((self.started_s, 0))

    def advance(self, n: int, now_s: float) -> None:
        """Count n more units, fewer than none where some turned out to be undone."""
        self.done += n
        self._seen.append((now_s, self.done))
        # The oldest that is kept lies just before the window.
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _WINDOW_S:
            self._seen.popleft()

    def per_s(self, now_s: float) -> float | None:
        """Units a second of late; None where too little has happened to tell."""
        at, done = self._seen[0]
        span = now_s - at
        return (self.done - done) / span if span >= _MIN_SPAN_S and self.done > done else None

    def seconds_left(self, now_s: float) -> float | None:
        """Seconds until all is done at the present rate; None where that cannot be told."""
        per_s = self.per_s(now_s)
        if per_s is None or not self.total:
            return None
        return max(0, self.total - self.done) / per_s

    def line(self, now_s: float, width: int | None = None, *, bar: bool = False) -> str:
        """Say how far the stage is, in one line of at most `width` characters.

        Where it is narrow the note goes, then the bar, then what stands at the end.
        """
        amount = f"{self.done:,}"
        if self.total is not None:
            amount += f" of {self.total:,}"
        counted = self.total is not None or self.done > 0
        said = [f"{amount} {self.unit}".strip()] if counted else []
        per_s, left = self.per_s(now_s), self.seconds_left(now_s)
        if per_s is not None:
            said.append(f"{rate(per_s)}")
        said.append(
            f"{clock(now_s - self.started_s)} so far" if left is None else f"{clock(left)} left"
        )
        words = f"{self.name}: {', '.join(said)}"
        room = None if width is None else width - len(words)
        if bar and self.total and room is not None and room >= _BAR + 2:
            full = min(_BAR, _BAR * self.done // self.total)
            words += f"  {'━' * full}{'╌' * (_BAR - full)}"
            room -= _BAR + 2
        if self.note and (room is None or room >= len(self.note) + 2):
            words += f"; {self.note}"
        return words if width is None else words[: max(0, width)]


def rate(per_s: float) -> str:
    """Write units a second, or a minute where that is clearer."""
    if per_s >= 10:
        return f"{per_s:,.0f}/s"
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{60 * per_s:.1f}/min"


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds, with hours and days where it has them."""
    told = str(timedelta(seconds=round(seconds)))
    return told.removeprefix("0:")
