"""Make the Prefect task runner that a config names, and see work on it to its end."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from prefect import get_client
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from dcd.config import RunnerConfig
from dcd.errors import ConfigError, DCDError
from tasks import reuse

W = TypeVar("W")
Submit = Callable[[TaskRunner[Any], W], PrefectFuture[Any]]

# What concurrent.futures, Ray and Dask raise for a task whose process died under it.
_KILLED = {
    "BrokenProcessPool",
    "KilledWorker",
    "LocalRayletDiedError",
    "NodeDiedError",
    "OutOfMemoryError",
    "WorkerCrashedError",
}

# Ray finds its own address by asking the network, which fails on closed ones.
_LOCAL_RAY = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}


class WorkerKilled(DCDError):
    """The process that worked on a task died in the middle of it."""

    def __str__(self) -> str:
        return "its worker was killed; out of memory? Fewer max_workers need less"


@dataclass(frozen=True)
class Ended(Generic[W]):
    """A piece of work whose task is over: `result` is what it returned, or an exception.

    is_kept: its task was skipped for a result that the store keeps.
    """

    work: W
    result: Any
    is_kept: bool


def ended(
    config: RunnerConfig, works: Sequence[W], submit: Submit[W], *, one_at_a_time: bool = False
) -> Iterator[Ended[W]]:
    """Submit every piece of work and yield each as it ends, in any order; no error is raised.

    Where a process died, the result is WorkerKilled. A pool of processes breaks with it, and takes
    along what its other processes held: it is started again for all that had not begun.
    """
    waiting = deque(works)
    n_at_once = len(works)
    if config.kind == "process":  # so that few are under suspicion when the pool breaks
        n_at_once = config.max_workers
    if one_at_a_time:
        n_at_once = 1
    while waiting:
        with started_runner(config) as runner:
            over: SimpleQueue[tuple[W, PrefectFuture[Any]]] = SimpleQueue()
            n_in_flight, is_broken = 0, False
            while n_in_flight or (waiting and not is_broken):
                while waiting and n_in_flight < n_at_once and not is_broken:
                    n_in_flight += 1
                    _begin(runner, waiting.popleft(), submit, over)
                end = _end_of(*over.get())
                n_in_flight -= 1
                is_broken |= config.kind == "process" and isinstance(end.result, WorkerKilled)
                yield end


def _begin(
    runner: TaskRunner[Any],
    work: W,
    submit: Submit[W],
    over: "SimpleQueue[tuple[W, PrefectFuture[Any]]]",
) -> None:
    future = submit(runner, work)
    future.add_done_callback(lambda _: over.put((work, future)))


def _end_of(work: W, future: PrefectFuture[Any]) -> Ended[W]:
    try:
        future.wait()
        result = reuse.result_of(future, raise_on_failure=False)
    except Exception as error:  # of the runner, not of the task: some raise it, some return it
        result = error
    if isinstance(result, Exception):
        if _KILLED & {kind.__name__ for kind in type(result).__mro__}:
            killed = WorkerKilled()
            killed.__cause__ = result
            return Ended(work, killed, is_kept=False)
        return Ended(work, result, is_kept=False)
    return Ended(work, result, reuse.is_cached(future))


def _end_with_parent() -> None:
    """End a worker process with the one that started it: a killed parent cannot tell it to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def started_runner(config: RunnerConfig) -> Iterator[TaskRunner[Any]]:
    """Start the runner of `config`, ready for tasks of the flow run that asks for it.

    Without a Prefect server a flow run starts one for itself. Processes of the runner use that one
    too: else each of them would start another on the same database, and wait for its lock.
    Raises ConfigError if the extra that the runner needs is not installed.
    """
    if config.kind == "thread" or PREFECT_API_URL.value():
        with runner_of(config) as runner:
            yield runner
        return
    with get_client(sync_client=True) as client:
        url = str(client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url}), runner_of(config) as runner:
        yield runner


def runner_of(config: RunnerConfig) -> TaskRunner[Any]:
    """Make the runner. Raises ConfigError if the extra that it needs is not installed."""
    try:
        match config.kind:
            case "thread":
                return ThreadPoolTaskRunner(max_workers=config.max_workers)
            case "process":
                return ProcessPoolTaskRunner(
                    max_workers=config.max_workers, initializer=_end_with_parent
                )
            case "ray":
                return _ray(config)
            case "dask":
                return _dask(config)
    except ModuleNotFoundError as err:
        raise ConfigError(
            [f"runner.kind: {config.kind} needs {err.name}; install the extra '{config.kind}'"]
        ) from err


def _ray(config: RunnerConfig) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports]

    if config.address is not None:
        return RayTaskRunner(address=config.address)
    return RayTaskRunner(init_kwargs={"num_cpus": config.max_workers, **_LOCAL_RAY})


def _dask(config: RunnerConfig) -> TaskRunner[Any]:
    from prefect_dask.task_runners import DaskTaskRunner  # pyright: ignore[reportMissingImports]

    if config.address is not None:
        return DaskTaskRunner(address=config.address)
    # One thread a worker: the encoder itself uses the cores.
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": config.max_workers,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
    )
