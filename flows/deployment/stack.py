"""Run a whole installation on this machine: a Prefect server, a worker, a watcher, deployments.

Called again it starts what is gone and nothing twice. Prefect is imported only by `bring_up`,
after its settings are made.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

from dcd.config import RunConfig
from dcd.errors import DCDError
from dcd.progress import live
from dcd.store import keys
from flows.deployment import local_processes

_PREFECT = (sys.executable, "-m", "prefect")
_FIRST_START_S = 150  # the database is made
_LOG_LINES = 20

# Set only where the user has not.
_DEFAULTS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # Prometheus: the server at /api/metrics.
    "PREFECT_SERVER_METRICS_ENABLED": "true",
    # A server that is away for a minute is waited for.
    "PREFECT_CLIENT_MAX_RETRIES": "10",
    # SQLite has one writer at a time; the others wait.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    # Records of runs that ended 90 days ago go, with their logs; the server's default keeps all.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # Places that a deployment's concurrency limit has given away, on disk: a server that was
    # killed would forget them, and a place that nobody holds any more would stay taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
}


class StackError(DCDError):
    """The server or the worker cannot be started."""


@dataclass(frozen=True)
class Place:
    """Where an installation is: home has its pid files, logs and Prefect's own folder.

    database: PostgreSQL's URL, or None for SQLite in `home`.
    """

    home: Path
    port: int
    database: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environ(self) -> dict[str, str]:
        """Return the environment of the server and the worker: the user's, and what they need."""
        chosen = {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "dcd",
        }
        if self.database is not None:
            chosen["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database
        return {**_DEFAULTS, **os.environ, **chosen}


@dataclass(frozen=True)
class Watch:
    """How the inbox is watched: the file of the run's config, and seconds between looks.

    every_s: 0 for no watcher, only the deployment `watch-failures`.
    """

    config_file: Path
    every_s: int

    @property
    def command(self) -> tuple[str, ...]:
        watching = ("-m", "flows", "failures", "watch", str(self.config_file))
        return (sys.executable, *watching, "--every", str(self.every_s))


def bring_up(
    place: Place,
    config: RunConfig,
    watch: Watch,
    prefect_file: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Start the server, the work pool, the deployments and the worker, each unless it is there.

    The watcher starts anew if its config has changed. prefect_file: other deployments than the
    package's own.

    Raises StackError if the port is taken or a process ends, ConfigError as `deploy`.
    """
    (place.home / "prefect").mkdir(parents=True, exist_ok=True)
    environ = place.environ()
    if not local_processes.alive(place.home, "server") and _answers(place):
        raise StackError(
            f"port {place.port} is taken by another Prefect server; choose one with --port"
        )
    serving = ("server", "start", "--host", "127.0.0.1", "--port", str(place.port))
    _start(place, "server", (*_PREFECT, *serving), environ, tell)
    with live.stage("wait for the server"):  # the first start makes its database
        _wait_for_server(place)
    with live.stage("make the work pool"):
        _make_work_pool(environ)

    os.environ.update(environ)
    from flows.deployment.deploy import PREFECT_FILE, deploy
    from flows.deployment.sweep import sweep

    with live.stage("deploy the flows"):
        deploy(config, prefect_file or PREFECT_FILE)
    for line in sweep():
        tell(line)
    # The root level lets the lines of `dcd` through to the runs' logs.
    logged = {**environ, "PREFECT_LOGGING_ROOT_LEVEL": "INFO"}
    working = ("worker", "start", "--pool", "dcd", "--name", f"dcd-{gethostname()}-{place.port}")
    _start(place, "worker", (*_PREFECT, *working), logged, tell)
    made_of = keys.digest(watch.command, str(Path.cwd()), config)
    local_processes.end_if_changed(place.home, "watcher", made_of)
    if watch.every_s:
        _start(place, "watcher", watch.command, environ, tell)


def bring_down(home: Path, tell: Callable[[str], None]) -> None:
    """Stop the watcher, the worker, its runs, and the server. Raises StillRunning."""
    for name in ("watcher", "worker", "server"):
        with live.stage(f"stop the {name}"):
            stopped = local_processes.stop(home, name)
        if stopped:
            tell(f"{name} stopped")


def _start(
    place: Place,
    name: str,
    command: tuple[str, ...],
    environ: dict[str, str],
    tell: Callable[[str], None],
) -> None:
    pid = local_processes.start(place.home, name, command, environ)
    if pid is not None:
        tell(f"{name} started, pid {pid}")


def _answers(place: Place) -> bool:
    try:
        with urllib.request.urlopen(f"{place.url}/api/health", timeout=2):
            return True
    except OSError:
        return False


def _wait_for_server(place: Place) -> None:
    log = place.home / "server.log"
    deadline = time.monotonic() + _FIRST_START_S
    while not _answers(place):
        if not local_processes.alive(place.home, "server"):
            end = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise StackError(f"the server ended; the end of {log}:\n{end}")
        if time.monotonic() > deadline:
            raise StackError(f"the server does not answer within {_FIRST_START_S} s; see {log}")
        time.sleep(0.5)


def _make_work_pool(environ: dict[str, str]) -> None:
    command = [*_PREFECT, "work-pool", "create", "dcd", "--type", "process", "--overwrite"]
    made = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if made.returncode:
        raise StackError(f"prefect work-pool create failed:\n{made.stdout}{made.stderr}")
