"""Run a command whose standard error is a terminal, of a width of one's choice."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import NamedTuple

DCD = (sys.executable, "-c", "from flows.cli.app import main; main()")
_SET_ELSEWHERE = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")


class Shown(NamedTuple):
    """What stood on the terminal, with its escapes, what went to a pipe at standard output."""

    written: str
    out: str
    code: int


def environ(**settings: str) -> dict[str, str]:
    """The environment of a command, with these settings and none of who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in _SET_ELSEWHERE}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", **settings}


def on_a_terminal(*command: str, columns: int = 80, **settings: str) -> Shown:
    """Run a command to its end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command, stderr=slave, stdin=slave, stdout=subprocess.PIPE, env=environ(**settings)
    ) as process:
        os.close(slave)
        written = b""
        try:
            while data := os.read(master, 4096):
                written += data
        except OSError:  # the other end is closed
            pass
        out = process.stdout.read() if process.stdout else b""
        process.wait(timeout=120)
    os.close(master)
    return Shown(written.decode(), out.decode(), process.returncode)
