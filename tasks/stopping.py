"""Let tasks in threads end soon after the flow that waits for them is interrupted.

Ctrl-C reaches the main thread alone. Prefect then waits until its threads have done what they
began: a batch of shards, a training, for however long that is.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from typing import Any, TypeVar

from prefect.futures import PrefectFuture

F = TypeVar("F", bound=PrefectFuture[Any])

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


def all_over(submitted: Iterable[F]) -> list[F]:
    """Submit tasks, as the iterable is read, and wait until all are over; stoppable meanwhile.

    Also where one failed: what is done once more must not meet the others.
    """
    with stoppable():
        futures = list(submitted)
        for future in futures:
            future.wait()
    return futures


def stop_if_told() -> None:
    """Raise KeyboardInterrupt, which nothing tries again, where a task's flow is interrupted."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
