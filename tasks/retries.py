"""Decide when a task is tried again: for what is transient only, with back-off and jitter."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from dcd.store.errors import is_transient

RETRIES = 5  # waits 2 + 4 + 8 + 16 + 32 s: a store that is away for half a minute is survived
RETRY_DELAYS_S = exponential_backoff(backoff_factor=2)
RETRY_JITTER_FACTOR = 0.5


def transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a task run's failure may go away by itself; `state.data` is its exception."""
    return isinstance(state.data, BaseException) and is_transient(state.data)


RETRY: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": RETRY_DELAYS_S,
    "retry_jitter_factor": RETRY_JITTER_FACTOR,
    "retry_condition_fn": transient,
    # The stage's own output object decides what is done, not Prefect's cache.
    "cache_policy": NO_CACHE,
}
