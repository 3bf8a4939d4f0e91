"""Seconds between the stages of a flow."""

import time


class Stopwatch:
    """Each `lap` is the time since the one before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        return seconds
