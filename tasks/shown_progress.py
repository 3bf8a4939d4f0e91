"""Show progress as Prefect artifacts: a bar for every long stage, and a log line at its end.

Updates go out every few seconds from a thread of their own, so that a slow server slows no work.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from tasks.artifacts import attempt, key

EVERY_S = 5.0


@dataclass
class _Bar:
    artifact: UUID | None
    total: int | None
    unit: str
    done: int = 0
    shown_at: float = 0.0
    sending: Future[None] | None = None

    @property
    def percent(self) -> float:
        return min(100.0, 100 * self.done / self.total) if self.total else 0.0

    @property
    def text(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        return f"{self.done:,}{of} {self.unit}"


class ShownProgress:
    """A progress listener for runs of a deployment. Its calls may come from any thread."""

    def __init__(self, every_s: float = EVERY_S):
        self._every_s = every_s
        self._bars: dict[str, _Bar] = {}
        self._lock = threading.Lock()
        self._sender = ThreadPoolExecutor(1, "progress")

    def started(self, stage: str, total: int | None, unit: str) -> None:
        """Open the bar; called inside the flow run that it belongs to.

        A stage of one step, or of nobody knows how many, has lines in the log and no bar: a run's
        page would be full of bars before its results.
        """
        made: list[Any] = []
        if total is not None and total > 1:
            attempt(
                lambda: made.append(
                    create_progress_artifact(0.0, key(stage, "progress"), f"{stage}: starts")
                )
            )
        with self._lock:
            self._bars[stage] = _Bar(
                made[0] if made else None, total, unit, shown_at=time.monotonic()
            )
        amount = "" if total is None else f", {total:,} {unit}"
        get_run_logger().info("%s: starts%s", stage, amount)

    def advanced(self, stage: str, n: int) -> None:
        self._show(stage, n, "")

    def noted(self, stage: str, note: str) -> None:
        self._show(stage, 0, f"; {note}")

    def _show(self, stage: str, n: int, note: str) -> None:
        with self._lock:
            bar = self._bars.get(stage)
            if bar is None:
                return
            bar.done += n
            now = time.monotonic()
            busy = bar.sending is not None and not bar.sending.done()
            if busy or now - bar.shown_at < self._every_s:
                return
            bar.shown_at = now
            text = f"{stage}: {bar.text}{note}"
            bar.sending = self._sender.submit(_send, bar.artifact, bar.percent, text)

    def finished(self, stage: str, outcome: str) -> None:
        with self._lock:
            bar = self._bars.pop(stage, None)
        if bar is not None:
            if bar.sending is not None:
                bar.sending.result()
            _send(bar.artifact, 100.0, f"{stage}: {outcome}")
        get_run_logger().info("%s: %s", stage, outcome)


def _send(artifact: UUID | None, percent: float, text: str) -> None:
    if artifact is not None:
        attempt(lambda: update_progress_artifact(artifact, percent, text))
