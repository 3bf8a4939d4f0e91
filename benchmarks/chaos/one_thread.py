"""Imported last by the server that lives are forked from: a fork beside threads may hang for ever.

Only the thread that has forked goes on in the child, and a lock that another one held stays locked.
"""

import os
from pathlib import Path

# Started by pyarrow's allocator on import, which is ready for forks (pthread_atfork).
_MAY_BE_THERE = {"jemalloc_bg_thd"}


def threads_beside() -> list[str]:
    """Name the threads of this process beside its main one, and beside those that may be there."""
    names = {
        task.name: (task / "comm").read_text().strip()
        for task in Path("/proc/self/task").iterdir()
        if task.name != str(os.getpid())
    }
    return sorted(name for name in names.values() if name not in _MAY_BE_THERE)


if threads_beside():
    raise RuntimeError(f"an import has left threads, so nothing can be forked: {threads_beside()}")
