"""Start and stop the processes of an installation by pid file, so that nothing is left over."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from dcd.errors import DCDError

_GRACE_S, _AFTER_KILL_S = 15, 5
_NAMELESS_S = 1  # longer than any program takes to be loaded


class StillRunning(DCDError):
    """A process was killed and did not go."""


def alive(home: Path, name: str) -> bool:
    """Tell whether the process of `home`/NAME.pid runs, and is Prefect's or ours."""
    return _find(home, name) is not None


def start(home: Path, name: str, command: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Start a process in a session of its own and return its pid; None if it runs already.

    What it prints goes to `home`/NAME.log.
    """
    if alive(home, name):
        return None
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (home / f"{name}.pid").write_text(f"{process.pid}\n", encoding="utf-8")
    return process.pid


def stop(home: Path, name: str) -> bool:
    """End a process and all that descend from it; False if it did not run.

    The process is asked to end, and has 15 seconds to end what it started; what is left then is
    killed. Raises StillRunning if something stays.
    """
    process = _find(home, name)
    if process is None:
        (home / f"{name}.pid").unlink(missing_ok=True)
        return False
    family = _family(process)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    _, left = psutil.wait_procs(family, timeout=_GRACE_S)
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    _, left = psutil.wait_procs(left, timeout=_AFTER_KILL_S)
    left = [each for each in left if not _is_over(each)]
    if left:
        pids = ", ".join(str(each.pid) for each in left)
        raise StillRunning(f"{name}: still running: {pids}; end them by hand")
    (home / f"{name}.pid").unlink(missing_ok=True)
    return True


def end_if_changed(home: Path, name: str, made_of: str) -> bool:
    """End a process that was not started of `made_of`, and note what the next one is started of.

    False if there was none to end. Raises StillRunning as `stop`.
    """
    note = home / f"{name}.made-of"
    if note.is_file() and note.read_text(encoding="utf-8") == made_of:
        return False
    ended = stop(home, name)
    note.write_text(made_of, encoding="utf-8")
    return ended


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _find(home: Path, name: str) -> psutil.Process | None:
    """Return the process that the pid file names, unless another one has its number now."""
    try:
        process = psutil.Process(int((home / f"{name}.pid").read_text(encoding="utf-8")))
        is_known = any("prefect" in word or word == "flows" for word in _words(process))
    except (OSError, ValueError, psutil.Error):
        return None
    return None if _is_over(process) or not is_known else process


def _words(process: psutil.Process) -> list[str]:
    """The command of a process; one that has just begun has none for a moment."""
    deadline = time.monotonic() + _NAMELESS_S
    while not (words := process.cmdline()):
        if _is_over(process) or time.monotonic() > deadline:  # none of ours goes without for long
            break
        time.sleep(0.01)
    return words


def _is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
