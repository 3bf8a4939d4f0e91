"""Tell live progress. Without a listener in this process nobody hears.

A listener is set by the command line. Workers in other processes have none, which is fine: the
flow tells of whole shards when their futures complete.
"""

from typing import Protocol


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


def started(stage: str, total: int | None, unit: str) -> None:
    _listener.started(stage, total, unit)


def advanced(stage: str, n: int = 1) -> None:
    _listener.advanced(stage, n)


def noted(stage: str, note: str) -> None:
    _listener.noted(stage, note)


def finished(stage: str, outcome: str) -> None:
    _listener.finished(stage, outcome)
