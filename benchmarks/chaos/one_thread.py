"""Imported last by the server that lives are forked from: a fork beside threads may hang for ever.

Only the thread that has forked goes on in the child, and a lock that another one held stays locked.
"""

from benchmarks.chaos.lives import threads_beside

if threads_beside():
    raise RuntimeError(f"an import has left threads, so nothing can be forked: {threads_beside()}")
