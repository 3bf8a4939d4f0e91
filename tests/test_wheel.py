"""What a user has who installed the wheel and nothing else: no checkout, an empty home.

`dcd demo` from the wheel is in tests/flows/test_demo.py.
"""

import socket
import subprocess
import zipfile
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from dcd.gate.champions import current
from dcd.gate.record import read_record
from dcd.runs.finished import list_runs
from dcd.store import Store
from tests.case import LABELS, png
from tests.operated import wait_for
from tests.wheel import Installed, install_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def config(installed: Installed) -> Path:
    """What `dcd init` makes of class folders in the working folder."""
    rng = np.random.default_rng(0)
    for part, n, dark in (("pool", 20, None), ("train", 8, False), ("test", 8, False),
                          ("failures", 10, True)):  # fmt: skip
        for label in LABELS:
            folder = installed.folder / part / label
            folder.mkdir(parents=True)
            for i in range(n):
                picture = png(rng, label, dark=i % 2 == 1 if dark is None else dark)
                (folder / f"{i}.png").write_bytes(picture)
    done = installed.dcd("init")
    assert done.returncode == 0, done.stderr
    assert "No problem found" in done.stdout
    return installed.folder / "config.yaml"


def test_the_wheel_holds_all_that_is_no_code(installed):
    (wheel,) = (installed.bin.parents[1] / "wheels").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dcd", "tasks", "flows"}
    held = {"dcd/py.typed", "dcd/report/templates/report.html", "dcd/serve/templates/serve.css"}
    held |= {"flows/deployment/prefect.yaml", "flows/deployment/automations.yaml"}
    assert held <= names


def test_the_environment_has_the_wheel_and_not_the_checkout(installed):
    code = "import dcd, flows, tasks; print(dcd.__file__, flows.__file__, tasks.__file__)"
    python = [str(installed.bin / "python"), "-c", code]
    done = subprocess.run(
        python, cwd=installed.folder, env=installed.environ(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert all(str(installed.bin.parent) in place for place in done.stdout.split())


def test_a_first_config_of_class_folders_runs(installed, config):
    done = installed.dcd("run", str(config))
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert list((installed.folder / "store" / "runs").glob("*/report.html"))


def test_an_installation_comes_up_and_goes_down(installed, config):
    port = free_port()
    try:
        done = installed.dcd("up", str(config), PORT=str(port))
        assert done.returncode == 0, done.stdout + done.stderr
        asked = httpx.post(f"http://127.0.0.1:{port}/api/deployments/filter", json={}, timeout=60)
        entrypoints = {deployment["entrypoint"] for deployment in asked.json()}
        assert "flows.debug_model.debug_model" in entrypoints
        pulled = [step for deployment in asked.json() for step in deployment["pull_steps"]]
        assert str(installed.folder) in str(pulled[0])
        pids = processes(installed)
        assert all(psutil.pid_exists(pid) for pid in pids)
        again = installed.dcd("up", str(config), PORT=str(port))
        assert again.returncode == 0, again.stderr
        assert "started" not in again.stdout
    finally:
        down = installed.dcd("down")
    assert down.returncode == 0, down.stderr
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.operated
def test_a_picture_in_the_inbox_becomes_a_run_with_an_answer_of_the_gate(installed, config):
    """`dcd init` wrote `failures: false`; what is woken by a failure takes it all the same."""
    store = Store(str(installed.folder / "store"))
    before = {entry.run_id for entry in list_runs(store)}
    try:
        done = installed.dcd("up", str(config), PORT=str(free_port()))
        assert done.returncode == 0, done.stdout + done.stderr
        pids = processes(installed)
        inbox = installed.folder / "store" / "failures" / "inbox" / "red"
        inbox.mkdir(parents=True)
        (inbox / "dropped.png").write_bytes(png(np.random.default_rng(9), "red", dark=True))
        run_id = wait_for(
            "the run of the dropped picture",
            lambda: next((e.run_id for e in list_runs(store) if e.run_id not in before), None),
            patience_s=420,
        )
        answer = wait_for("the gate's answer", lambda: read_record(store, run_id))
        assert answer.outcome in ("passed", "refused"), answer
        if answer.outcome == "passed":
            wait_for("the new champion", lambda: run_id == champion_of(store))
        wait_for(
            "the run that covered the picture",
            lambda: run_id in installed.dcd("failures", "list", "--config", str(config)).stdout,
        )
        assert (run_id == champion_of(store)) == (answer.outcome == "passed")
    finally:
        down = installed.dcd("down")
    assert down.returncode == 0, down.stderr
    assert not any(psutil.pid_exists(pid) for pid in pids)


def champion_of(store: Store) -> str | None:
    champion = current(store)
    return champion and champion.run_id


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def processes(installed: Installed) -> list[int]:
    """The processes that `dcd up` keeps."""
    return [
        int((installed.folder / ".dcd" / f"{name}.pid").read_text())
        for name in ("server", "worker", "watcher")
    ]
