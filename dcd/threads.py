"""Count cores, take items ahead in threads, hold BLAS to one thread where more only wait.

The number of BLAS threads belongs to the process. Were each caller to set it and to put back what
it found, callers that overlap would end in the wrong order, and the rest of a computation would run
with another number of threads: slower, and with other roundings. So they are counted here.

A product has other last bits on one thread than on two, and what runs beside a computation decides
which. So whatever is kept, or decides what is kept, is computed inside `one_blas_thread`.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from threadpoolctl import threadpool_limits


def cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


T = TypeVar("T")


def taken_ahead(sources: Sequence[Generator[T, None, None]]) -> Generator[T, None, None]:
    """Yield items of the sources in turn, while the next one of each is made in a thread.

    The order is the same however fast they are. What a source raises is raised here. Sources are
    closed at the end, also where the taker stops early.
    """
    if not sources:
        return
    end = object()
    try:
        with ThreadPoolExecutor(len(sources)) as threads:
            waiting = deque((source, threads.submit(next, source, end)) for source in sources)
            while waiting:
                source, future = waiting.popleft()
                item = future.result()
                if item is not end:
                    waiting.append((source, threads.submit(next, source, end)))
                    yield item  # pyright: ignore[reportReturnType] - not the end
                    del item
    finally:
        for source in sources:
            source.close()


def in_blocks(n: int, size: int, work: Callable[[slice], None]) -> None:
    """Do work on n rows, block by block on all cores; the blocks do not depend on their number."""
    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(lambda start: work(slice(start, start + size)), range(0, n, size)))


_lock = Lock()

# threadpoolctl (3.8) heeds only the thread that set the number first, so one thread sets it always.
_setter = ThreadPoolExecutor(1, thread_name_prefix="blas-threads")
_n_inside = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread for as long as anybody is inside, in whatever thread."""
    global _n_inside, _limits
    with _lock:
        _n_inside += 1
        if _limits is None:
            _limits = _by_the_setter(lambda: threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0 and _limits is not None:
                _by_the_setter(_limits.restore_original_limits)
                _limits = None


def _by_the_setter(change: Callable[[], T]) -> T | None:
    """Run it in the thread that sets the number; None once the interpreter ends."""
    try:
        future = _setter.submit(change)
    except RuntimeError:  # an executor takes nothing any more while the interpreter ends
        return None
    return future.result()
