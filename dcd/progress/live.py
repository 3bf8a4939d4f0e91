"""Tell live progress. Without a listener in this process nobody hears.

A listener is set by the command line, or by a run of a deployment. Workers in other processes have
none, which is fine: the flow tells of whole shards when their futures complete.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Listener(Protocol):
    """Hears of the stages of one run. All calls may come from any thread."""

    def started(self, stage: str, total: int | None, unit: str) -> None:
        """Begin a stage: `total` units of work, None if not known."""

    def advanced(self, stage: str, n: int) -> None:
        """Count `n` more units as done."""

    def noted(self, stage: str, note: str) -> None:
        """Note where the current unit of work stands, in a few words."""

    def finished(self, stage: str, outcome: str) -> None:
        """End the stage; `outcome` says in a few words what it made."""


class _Silent:
    def started(self, stage: str, total: int | None, unit: str) -> None: ...
    def advanced(self, stage: str, n: int) -> None: ...
    def noted(self, stage: str, note: str) -> None: ...
    def finished(self, stage: str, outcome: str) -> None: ...


_listener: Listener = _Silent()


def listen(listener: Listener) -> None:
    """Send all further progress of this process to `listener`."""
    global _listener
    _listener = listener


def hush() -> None:
    """Send further progress nowhere."""
    listen(_Silent())


def started(stage: str, total: int | None, unit: str) -> None:
    _listener.started(stage, total, unit)


def advanced(stage: str, n: int = 1) -> None:
    _listener.advanced(stage, n)


def noted(stage: str, note: str) -> None:
    _listener.noted(stage, note)


def finished(stage: str, outcome: str) -> None:
    _listener.finished(stage, outcome)


@dataclass
class Stage:
    """A stage that is under way. outcome: what it made, told at its end."""

    name: str
    outcome: str = "done"

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        advanced(self.name, n)

    def note(self, words: str) -> None:
        """Note where the work stands, in a few words."""
        noted(self.name, words)

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hand on items, each of which is a unit that is done when the next one is asked for."""
        for item in items:
            yield item
            self.advance()


@contextmanager
def stage(name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
    """Tell of the block as a stage: `total` units of work, None where that is not known.

    A block that raises leaves its stage unfinished: who shows progress ends it with the command.
    """
    started(name, total, unit)
    told = Stage(name)
    yield told
    finished(name, told.outcome)
