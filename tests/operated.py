"""What `dcd up` starts, for tests: a Prefect server, a worker and the deployments of a case."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import yaml

from flows.deployment.deploy import PREFECT_FILE

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
PATIENCE_S = 1200  # what takes seconds on a quiet machine may take minutes on a busy one
BUSY_S = 120
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Stack:
    """One server with its worker, in a home of its own on a free port."""

    def __init__(self, home: Path, config: Path, settings: Mapping[str, str]):
        self.home, self.config = home, config
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
        self.environ = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DCD_HOME": str(home),
            "PORT": str(self.port),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_FILE": str(_hurried(home)),
            **settings,
        }

    def up(self) -> str:
        return self._managed("up", str(self.config))

    def down(self) -> str:
        return self._managed("down")

    def pid(self, name: str) -> int:
        return int((self.home / f"{name}.pid").read_text())

    def kill(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for("their end", lambda: not any(_runs(pid) for pid in pids))

    def flow_processes(self, run_id: UUID | str) -> list[int]:
        """The processes that work on a flow run."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    environ = (folder / "environ").read_bytes()
                except OSError:
                    continue
                if str(run_id).encode() in environ:
                    found.append(int(folder.name))
        return found

    def post(self, path: str, **body: Any) -> Any:
        """Ask the server. Busy with its database it answers 503: ask again, as its clients do."""
        deadline = time.monotonic() + BUSY_S
        while True:
            answer = httpx.post(f"{self.url}/api/{path}", json=body, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or (
                time.monotonic() > deadline
            ):
                answer.raise_for_status()
                return answer.json()
            time.sleep(1)

    def runs(self, flow: str, **filters: Any) -> list[dict[str, Any]]:
        """Flow runs of a flow, the newest first."""
        return self.post(
            "flow_runs/filter",
            flows={"name": {"any_": [flow]}},
            flow_runs=filters or None,
            sort="START_TIME_DESC",
        )

    def dcd(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, "-m", "flows", *command)

    def prefect(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, "-m", "prefect", *command)

    def _managed(self, name: str, *arguments: str) -> str:
        ran = self.dcd(name, *arguments)
        logs = [p for n in ("server", "worker") if (p := self.home / f"{n}.log").exists()]
        ends = "\n".join(p.read_text(errors="replace")[-3000:] for p in logs)
        assert ran.returncode == 0, f"{name}: {ran.stdout}{ran.stderr}\n{ends}"
        return ran.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, "PREFECT_API_URL": f"{self.url}/api"}
        environ["PREFECT_HOME"] = str(self.home / "prefect")
        return subprocess.run(
            command,
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@contextmanager
def started(home: Path, config: Path, settings: Mapping[str, str]) -> Iterator[Stack]:
    stack = Stack(home, config, settings)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def wait_for(what: str, look: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """Look until there is something; a server that is just starting has nothing to say."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            found = look()
        except httpx.HTTPError:
            found = None
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: not seen within {patience_s} s")


def _runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _hurried(home: Path) -> Path:
    """The deployments with shorter waits: inbox every two minutes, resumed after half a minute."""
    home.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_load(PREFECT_FILE.read_text())
    for deployment in document["deployments"]:
        if deployment["entrypoint"].endswith(".watch_failures"):
            deployment["schedules"] = [{"cron": "*/2 * * * *", "timezone": "UTC"}]
    (home / "prefect.yaml").write_text(yaml.safe_dump(document))
    automations = PREFECT_FILE.with_name("automations.yaml").read_text()
    resumed = automations.rpartition("within: 90")
    (home / "automations.yaml").write_text(f"{resumed[0]}within: 30{resumed[2]}")
    return home / "prefect.yaml"
