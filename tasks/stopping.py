"""Let tasks in threads end soon after the flow that waits for them is interrupted.

Ctrl-C reaches the main thread alone. Prefect then waits until its threads have done what they
began: a batch of shards, a training, for however long that is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

# Prefect hands the context of who submits a task to the thread that runs it.
_stop: ContextVar[Event | None] = ContextVar("dcd_stop", default=None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Tasks that are submitted in the block are told to stop when anything is raised in it."""
    stop = Event()
    token = _stop.set(stop)
    try:
        yield
    except BaseException:
        stop.set()
        raise
    finally:
        _stop.reset(token)


def stop_if_told() -> None:
    """Raise KeyboardInterrupt, which nothing tries again, where a task's flow is interrupted."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
