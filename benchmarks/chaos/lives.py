"""Run a command of `dcd` in a process of its own, kill it, and look at what it leaves behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Protocol

Signal = Literal["SIGKILL", "SIGTERM", "SIGINT"]
LEAVE_S = 15.0  # as long as a process may take to be gone after a signal
_MARK = "DCD_CHAOS_LIFE"  # children that are programs of their own inherit it
# commands: those of a user, through Prefect. functions: what its tasks call, without Prefect, at a
# fifth of the cost; what has no flow (promote, rollback, prune) is the command in both.
Way = Literal["commands", "functions"]
_PRELOADED = ["flows.cli.app", "dcd.runs.loop", "dcd.failures.intake"]
_PRELOADED += ["dcd.gate.promotion", "dcd.runs.pruning"]
_WITH_PREFECT = ["flows.debug_model", "flows.select_images", "flows.watch_failures"]
_WITH_PREFECT += ["flows.cli.terminal", "dcd.validation.run"]


class Alive(Protocol):
    """What both kinds of process can do."""

    pid: int | None


@dataclass(frozen=True)
class Ended:
    """How a life ended: exit code (negative: by that signal), None if it did not; seconds."""

    exit_code: int | None
    seconds: float


class Life:
    """One process that runs `dcd ARGV...`, with all that it starts.

    Forked from a server that has torch and Prefect loaded, unless it is to be a program of its own,
    started as a user does, with a Prefect server of its own.
    """

    def __init__(
        self,
        argv: list[str],
        environ: Mapping[str, str],
        log: Path,
        way: Way = "commands",
        *,
        own: bool = False,
    ):
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._started = time.monotonic()
        if own:
            named = {n: v for n, v in os.environ.items() if n != "PREFECT_API_URL"}
            with log.open("ab") as out:
                self._program = subprocess.Popen(
                    [sys.executable, "-m", "flows", *argv],
                    env=named | dict(environ) | {_MARK: self.mark},
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            self.pid: int = self._program.pid
            self._forked: BaseProcess | None = None
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED + (_WITH_PREFECT if way == "commands" else []))
        self._forked = context.Process(
            target=_command, args=(argv, {**environ, _MARK: self.mark}, str(log), way)
        )
        self._forked.start()
        assert self._forked.pid is not None
        self.pid = self._forked.pid

    def is_over(self, within_s: float) -> bool:
        """Wait for the end, so long at most."""
        if self._forked is None:
            try:
                self._program.wait(within_s)
            except subprocess.TimeoutExpired:
                return False
            return True
        self._forked.join(within_s)
        return self._forked.exitcode is not None

    def send(self, name: Signal) -> None:
        """Send a signal to the process; Ctrl-C goes to all of its session, as a terminal does."""
        number = signal.Signals[name]
        try:
            if name == "SIGINT":
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def end(self, within_s: float) -> Ended:
        """Wait for the end; one that is not over by then is killed, and has no exit code."""
        if not self.is_over(within_s):
            self.send("SIGKILL")
            self.is_over(LEAVE_S)
            return Ended(None, time.monotonic() - self._started)
        code = self._program.returncode if self._forked is None else self._forked.exitcode
        return Ended(code, time.monotonic() - self._started)

    def left_behind(self) -> list[int]:
        """Processes of this life that are still there, itself left out."""
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) in (self.pid, os.getpid()):
                continue
            try:
                is_marked = f"{_MARK}={self.mark}\0".encode() in (process / "environ").read_bytes()
                status = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if status[0] != "Z" and (is_marked or int(status[3]) == self.pid):
                found.append(int(process.name))
        return found


def _command(argv: list[str], environ: Mapping[str, str], log: str, way: Way) -> None:
    """Be `dcd ARGV...`: the very function of its script, or what its tasks call."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environ)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from flows.cli.app import app
    from flows.cli.console import leaving

    if way == "functions" and argv[0] in ("run", "failures"):
        leaving(partial(_run_functions, argv))
    leaving(partial(app, argv, prog_name="dcd"))


def _run_functions(argv: list[str]) -> None:
    from dcd.config import load_config
    from dcd.failures.intake import take_in_folder
    from dcd.runs import loop
    from dcd.store import Store

    config = load_config(Path(argv[-1]))
    if argv[0] == "run":
        loop.run(config)
    else:
        take_in_folder(Store(config.store), config)
