"""When a task is tried again: for what is transient only, with back-off and jitter."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from dcd.store_errors import is_transient

RETRIES = 4
RETRY_DELAYS_S = exponential_backoff(backoff_factor=2)
RETRY_JITTER_FACTOR = 0.5


def transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether the failure of a task run may go away by itself; `state.data` is its exception."""
    return isinstance(state.data, BaseException) and is_transient(state.data)
