import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prefect import flow, get_client, task
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED, temporary_settings

from flows.server import temporary as module
from flows.server.temporary import ServerError, temporary_server


@task
def double(n: int) -> int:
    return 2 * n


@flow
def doubled(n: int) -> tuple[int, str | None]:
    return double(n), PREFECT_API_URL.value()


@pytest.mark.slow
def test_a_flow_runs_on_it_and_what_it_recorded_outlives_it(prefect_home):
    with temporary_server() as ready:
        ready()
        state = doubled(21, return_state=True)
        result, url = state.result()
        assert result == 42
        assert url == os.environ["PREFECT_API_URL"]
    assert "PREFECT_API_URL" not in os.environ
    assert PREFECT_API_URL.value() is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")

    with temporary_server() as ready, get_client(sync_client=True) as client:
        ready()
        run_id = state.state_details.flow_run_id
        assert run_id is not None
        recorded = client.read_flow_run(run_id).state
        assert recorded is not None
        assert recorded.is_completed()
        found = httpx.post(
            f"{os.environ['PREFECT_API_URL']}/task_runs/filter",
            json={"task_runs": {"flow_run_id": {"any_": [str(run_id)]}}},
        )
        assert [run["state_type"] for run in found.json()] == ["COMPLETED"]


@pytest.mark.parametrize(
    "settings",
    [{PREFECT_API_URL: "http://example.test/api"}, {PREFECT_SERVER_EPHEMERAL_ENABLED: False}],
)
def test_nothing_starts_where_the_settings_say_otherwise(settings, monkeypatch):
    monkeypatch.setattr(module, "_start", lambda *_: pytest.fail("a server was started"))
    with temporary_settings(settings), temporary_server() as ready:
        ready()
        assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_cannot_start_is_explained(monkeypatch, tmp_path, prefect_home, capsys):
    database = f"sqlite+aiosqlite:///{tmp_path}/no/such/folder/prefect.db"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", database)
    with temporary_server() as ready, pytest.raises(ServerError, match="exit code 3"):
        ready()
    assert "unable to open database file" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["PREFECT_HOME", "TMPDIR"])
def test_a_disk_without_room_is_told_before_the_start(
    monkeypatch, tmp_path, prefect_home, variable
):
    full = tmp_path if variable == "TMPDIR" else Path(prefect_home)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(module, "_start", lambda *_: pytest.fail("a server was started"))
    usage = shutil.disk_usage

    def little(folder: Path):
        return usage(folder)._replace(free=1000 if folder == full else 2**40)

    monkeypatch.setattr(module.shutil, "disk_usage", little)
    with pytest.raises(ServerError, match=f"1,000 bytes are left .* by {variable}"):
        temporary_server().__enter__()


def test_a_server_that_is_too_slow_is_explained(monkeypatch, prefect_home):
    monkeypatch.setattr(module, "_answers", lambda client: False)
    with pytest.raises(ServerError, match="0 s"):
        module._wait(subprocess.Popen(["sleep", "0.1"]), "http://127.0.0.1:1/api", 0)


def test_a_failed_check_leaves_without_waiting_for_the_start(prefect_home):
    before = time.monotonic()
    with pytest.raises(KeyError), temporary_server():
        raise KeyError
    assert time.monotonic() - before < 5


_HOLDER = """
import time
from flows.server import temporary as module
start = module._start
def told(*arguments):
    server = start(*arguments)
    print(server.pid, flush=True)
    return server
module._start = told
with module.temporary_server() as ready:
    ready()
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_server_ends_with_a_process_that_was_killed(prefect_home):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        server = int(holder.stdout.readline())
        assert holder.stdout.readline() == "ready\n"
        assert is_running(server)
        holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_running(server):
        assert time.monotonic() < deadline, "the server outlived the process that started it"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
