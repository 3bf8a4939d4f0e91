"""Run a command of `dcd` in a process of its own, kill it, and look at what it leaves behind."""

import faulthandler
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Protocol, cast

Signal = Literal["SIGKILL", "SIGTERM", "SIGINT"]
LEAVE_S = 15.0  # as long as a process may take to be gone after a signal
_READY_S = 300.0  # as long as imports may take
_TELL = signal.SIGUSR1
_TELLING_S = 3.0
_MARK = "DCD_CHAOS_LIFE"  # children that are programs of their own inherit it
# commands: those of a user, through Prefect. functions: what its tasks call, without Prefect, at a
# fifth of the cost; what has no flow (promote, rollback, prune) is the command in both.
Way = Literal["commands", "functions"]
# fork: from a server that has imported everything, in no time. exec: a program that imports first.
# own: a program as a user starts it, with a Prefect server of its own.
Start = Literal["fork", "exec", "own"]
_PRELOADED = ["flows.cli.app", "dcd.runs.loop", "dcd.failures.intake"]
_PRELOADED += ["dcd.gate.promotion", "dcd.runs.pruning"]
# What a run imports when it first wants it, two thirds of its time in a process that is new.
_PRELOADED += ["dcd.encoders.openvino_backend", "openvino.frontend.pytorch", "torch._dynamo"]
_PRELOADED += ["sklearn.linear_model", "matplotlib.backends.backend_svg", "pandas", "torchvision"]
_PRELOADED += ["s3fs", "boto3"]
_WITH_PREFECT = ["flows.debug_model", "flows.select_images", "flows.watch_failures"]
_WITH_PREFECT += ["flows.cli.terminal", "dcd.validation.run"]
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Of pyarrow's allocator, which has handlers for forks.
_READY_FOR_FORKS = {"jemalloc_bg_thd"}
_LAST = "benchmarks.chaos.one_thread"  # refuses to fork beside threads


class Alive(Protocol):
    """What both kinds of process can do."""

    pid: int | None


@dataclass(frozen=True)
class Ended:
    """How a life ended: exit code (negative: by that signal), None if it did not; seconds."""

    exit_code: int | None
    seconds: float


class Life:
    """One process that runs `dcd ARGV...`, with all that it starts."""

    def __init__(
        self,
        argv: list[str],
        environ: Mapping[str, str],
        log: Path,
        way: Way = "commands",
        start: Start = "fork",
    ):
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        environ = {**environ, _MARK: self.mark}
        self._started = time.monotonic()
        self._program: subprocess.Popen[bytes] | None = None
        self._forked: BaseProcess | None = None
        context = multiprocessing.get_context("forkserver")
        self._ready, theirs = context.Pipe(duplex=False)
        if start == "fork":
            context.set_forkserver_preload([*_preloaded(way), _LAST])
            self._forked = context.Process(
                target=_command, args=(argv, environ, str(log), way, theirs)
            )
            with _without_pools_of_blas():
                self._forked.start()
            self.pid = cast(int, self._forked.pid)
        else:
            self._program = _program(argv, environ, log, way, start, theirs)
            self.pid: int = self._program.pid
        theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until all imports are done; a program with its own server never says so."""
        self._ready.poll(_READY_S)
        self._started = time.monotonic()

    def is_over(self, within_s: float) -> bool:
        """Wait for the end, so long at most."""
        if self._program is not None:
            try:
                self._program.wait(within_s)
            except subprocess.TimeoutExpired:
                return False
            return True
        assert self._forked is not None
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
        """Wait for the end; one that is not over by then is killed, and has no exit code.

        It writes into its log where its threads are before.
        """
        if not self.is_over(within_s):
            os.kill(self.pid, _TELL)
            self.is_over(_TELLING_S)
            self.send("SIGKILL")
            self.is_over(LEAVE_S)
            return Ended(None, time.monotonic() - self._started)
        return Ended(self._exit_code(), time.monotonic() - self._started)

    def _exit_code(self) -> int | None:
        if self._program is not None:
            return self._program.returncode
        assert self._forked is not None
        return self._forked.exitcode

    def processor_s(self) -> float:
        """Seconds of processor time that the process itself has had so far."""
        try:
            told = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

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


@contextmanager
def _without_pools_of_blas() -> Iterator[None]:
    """Let the server that is started here import BLAS without threads."""
    before = {name: os.environ.get(name) for name in _POOLS}
    os.environ.update(dict.fromkeys(_POOLS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def threads_beside() -> list[str]:
    """Name the threads of this process beside its main one and beside those that stand a fork."""
    names = [
        (task / "comm").read_text().strip()
        for task in Path("/proc/self/task").iterdir()
        if task.name != str(os.getpid())
    ]
    return sorted(name for name in names if name not in _READY_FOR_FORKS)


def _preloaded(way: Way) -> list[str]:
    return _PRELOADED + (_WITH_PREFECT if way == "commands" else [])


def _program(
    argv: list[str],
    environ: Mapping[str, str],
    log: Path,
    way: Way,
    start: Start,
    ready: Connection,
) -> "subprocess.Popen[bytes]":
    inherited = dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.chaos.lives", way, str(ready.fileno()), *argv]
    if start == "own":
        inherited.pop("PREFECT_API_URL", None)
        command = [sys.executable, "-m", "flows", *argv]
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env={**inherited, **environ},
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=() if start == "own" else (ready.fileno(),),
        )


def _command(
    argv: list[str], environ: Mapping[str, str], log: str, way: Way, ready: Connection
) -> None:
    """Be `dcd ARGV...`, forked: a session of its own, its output in the log."""
    os.setsid()
    os.environ.update(environ)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    _be(argv, way, ready)


def _be(argv: list[str], way: Way, ready: Connection) -> None:
    """Be the very function of dcd's script, or what its tasks call."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(_TELL)
    from flows.cli.app import app
    from flows.cli.console import leaving

    ready.close()  # as good as a word: whoever waits sees its end
    if way == "functions" and argv[0] in ("run", "failures"):
        leaving(partial(_run_functions, argv))
    leaving(partial(app, argv, prog_name="dcd"))


def _run_functions(argv: list[str]) -> None:
    import typer

    from dcd.config import load_config
    from dcd.failures.intake import take_in_folder
    from dcd.runs import loop
    from dcd.store import Store
    from flows.cli.console import explained

    config = load_config(Path(argv[-1]))
    try:
        with explained():
            if argv[0] == "run":
                loop.run(config)
            else:
                take_in_folder(Store(config.store), config)
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from None


if __name__ == "__main__":
    way_, descriptor, *argv_ = sys.argv[1:]
    for module in _preloaded(cast(Way, way_)):
        importlib.import_module(module)
    _be(argv_, cast(Way, way_), Connection(int(descriptor), readable=False))
