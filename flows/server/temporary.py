"""A Prefect server for one command, which comes up while the command does other things.

Prefect itself starts such a server at the first call of its API, waits for it, and imports all of
it into the calling process too. Here the server starts first, and the imports of torch and the
check of the data run meanwhile.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import httpx

from dcd.errors import DCDError
from flows.server.busy_database import retried_when_busy

_API_URL = "PREFECT_API_URL"
_HOST = "127.0.0.1"

# As long as a first start, which migrates a database, may take to listen to its end.
_STOP_S = 60
_ROOM_BYTES = 16 << 20  # a new database takes about 2 MB; a run adds less
_DRAIN_S = 10


class ServerError(DCDError):
    """The temporary Prefect server does not answer."""


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a Prefect server for the block; yields what waits until the server answers.

    Nothing is started where Prefect's settings name a server or forbid temporary ones. Waiting
    raises ServerError.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_SERVER_EPHEMERAL_ENABLED,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    )

    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        yield lambda: None
        return
    port = _free_port()
    url = f"http://{_HOST}:{port}/api"
    limit_s = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with TemporaryFile() as messages, ThreadPoolExecutor(max_workers=1) as meanwhile:
        starting = _alone()
        server = _start(port, messages)
        try:
            ready = meanwhile.submit(_wait_and_let_others, server, url, limit_s, starting)
            with _settings_for(url):
                try:
                    yield partial(_answered, ready, messages)
                finally:
                    _drain()
        finally:
            _stop(server)


def _alone() -> BinaryIO:
    """Wait while another command starts Prefect for the first time, which migrates its database.

    Two that migrate at once fail (Prefect 3.8: "table work_queue already exists"). Closing the file
    lets the next one start; so does the end of this process, however it ends. It holds something
    once a start went well: from then on nobody waits.
    """
    import prefect
    from prefect.settings import PREFECT_HOME

    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        _check_room(home, "Prefect's home", "PREFECT_HOME")
        # SQLite keeps its temporary files there, full or not.
        if scratch := os.environ.get("TMPDIR"):
            _check_room(Path(scratch), "temporary files", "TMPDIR")
        lock = (home / f".dcd-started-{prefect.__version__}").open("a+b")
    except OSError as err:
        raise ServerError(
            f"{err.filename or home}: cannot be written ({err.strerror}); name other folders by "
            "PREFECT_HOME and TMPDIR"
        ) from err
    if not lock.tell():
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _check_room(folder: Path, what: str, variable: str) -> None:
    """A server on a full disk waits and fails over and over: raise ServerError before it starts."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM_BYTES:
        raise ServerError(
            f"{folder}: {free:,} bytes are left on the disk of {what}, and Prefect's database "
            f"wants {_ROOM_BYTES:,}; make room, or name another folder by {variable}"
        )


def _answered(ready: "Future[None]", messages: BinaryIO) -> None:
    """Wait until the server answers; if it does not, show what it said, and raise ServerError."""
    try:
        ready.result()
    except ServerError:
        messages.seek(0)
        sys.stderr.write(messages.read().decode(errors="replace"))
        raise


def _wait_and_let_others(
    server: subprocess.Popen[bytes], url: str, limit_s: float, starting: BinaryIO
) -> None:
    with starting:
        _wait(server, url, limit_s)
        if not starting.seek(0, os.SEEK_END):
            starting.write(b"started\n")


def serve(port: int) -> None:
    """Be Prefect's server, until the standard input ends: it is held by who started this."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    app = retried_when_busy(create_app())
    uvicorn.run(app, host=_HOST, port=port, log_level="error", lifespan="on")


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]


def _start(port: int, messages: BinaryIO) -> subprocess.Popen[bytes]:
    """Start it; what it says goes to `messages`.

    A server that is stopped while it works tells traces of what it left, with nothing lost: only
    one that does not come up has something to say to a user.
    """
    from prefect.settings import get_current_settings

    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    for_one_command = {
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        "PYTHONPATH": os.pathsep.join(path),
    }
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(port)],
        env=os.environ
        | for_one_command
        | get_current_settings().to_environment_variables(exclude_unset=True),
        stdin=subprocess.PIPE,
        stdout=messages,
        stderr=messages,
        start_new_session=True,  # Ctrl-C is for the command, which has a last state to report
    )


@contextmanager
def _settings_for(url: str) -> Iterator[None]:
    """Prefect's settings for a server at `url` that only this command uses.

    The URL is set for the whole process: a thread without Prefect's context would start a second
    server. Such a server has no UI, and nothing that listens to heartbeats, which cost up to a
    second at the end of each flow.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_UI_URL,
        temporary_settings,
    )

    os.environ[_API_URL] = url
    refresh_global_settings_context()
    try:
        with temporary_settings({PREFECT_UI_URL: "", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        del os.environ[_API_URL]
        refresh_global_settings_context()


def _wait(server: subprocess.Popen[bytes], url: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    with httpx.Client(base_url=url, timeout=limit_s, trust_env=False) as client:
        while not _answers(client):
            _refuse_late(server, url, limit_s, deadline)
            time.sleep(0.1)


def _answers(client: httpx.Client) -> bool:
    """Asks for the version: the first request but for the health builds what all others need."""
    try:
        return client.get("/admin/version").is_success
    except httpx.TransportError:
        return False


def _refuse_late(
    server: subprocess.Popen[bytes], url: str, limit_s: float, deadline: float
) -> None:
    if server.poll() is not None:
        raise ServerError(
            f"Prefect's temporary server at {url} ended with exit code {server.returncode} before "
            "it answered; its own messages are above. PREFECT_API_URL names a server to use instead"
        )
    if time.monotonic() > deadline:
        raise ServerError(
            f"Prefect's temporary server at {url} did not answer within {limit_s} s; give it "
            "longer with PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or name a server to use "
            "instead with PREFECT_API_URL"
        )


def _drain() -> None:
    """Send what Prefect's threads still hold, and close their connections.

    The server waits for open connections before it stops.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=_DRAIN_S)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    finally:
        if server.stdin is not None:
            server.stdin.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
