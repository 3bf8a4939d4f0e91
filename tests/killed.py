"""Kill processes of a runner while they hold something, as an out-of-memory killer does."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def holders_killed(
    is_held: Callable[[str], bool], at_most: int | None = None
) -> Iterator[set[int]]:
    """Kill every other process that has such a file open; gives the ids of those that were."""
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and (at_most is None or len(killed) < at_most):
            for pid in sorted(_holders(is_held) - killed)[: at_most and at_most - len(killed)]:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def _holders(is_held: Callable[[str], bool]) -> set[int]:
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if any(is_held(os.readlink(fd)) for fd in (process / "fd").iterdir()):
                found.add(int(process.name))
        except OSError:
            continue
    return found
