"""Make the Prefect task runner that a config names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from dcd.config import RunnerConfig
from dcd.errors import ConfigError

# Ray finds its own address by asking the network, which fails on closed ones.
_LOCAL_RAY = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}


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
                return ProcessPoolTaskRunner(max_workers=config.max_workers)
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
