"""What is printed is text, whatever labels, modes and reasons look like."""

import errno
import io
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import typer
from rich.table import Table

from flows.cli.console import EXIT_FAILED, explained, plain_console
from flows.cli.show.progress import Bars

HOSTILE = ("[/x]", "[red]wine[/red]", "[link=file:///etc/passwd]a[/link]", ":smile:")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_printed_as_it_is(capsys, text):
    table = Table("label")
    table.add_row(text)
    console = plain_console()
    console.print(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_bars_show_markup_as_it_is(text):
    console = plain_console()
    console.file = io.StringIO()
    with Bars(console, worth_a_line_s=0) as bars:
        bars.started(text, 2, text)
        bars.noted(text, text)
        bars.finished(text, text)
    assert text in console.file.getvalue()


def test_a_full_disk_beside_the_store_is_told_without_a_trace(capsys):
    """Results that users ask for, and temporary files: --json on a full disk."""
    with pytest.raises(typer.Exit) as left, explained(), open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    assert left.value.exit_code == EXIT_FAILED
    assert "no space is left on the disk" in capsys.readouterr().err


def test_the_full_file_is_named(capsys):
    with pytest.raises(typer.Exit), explained():
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x", None, "/results/y.json")
    assert capsys.readouterr().err.startswith("/results/y.json: no space is left")


def test_any_other_fault_of_a_file_keeps_its_trace():
    with pytest.raises(IsADirectoryError), explained():
        Path("/").read_bytes()


_WAITS_FOR_A_THREAD = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from flows.cli.console import leaving

def command():
    with ThreadPoolExecutor(1) as threads:
        threads.submit(time.sleep, 600)
        print("waits", flush=True)
        time.sleep(600)

leaving(command, leave_s=float(sys.argv[1]))
"""


@pytest.mark.parametrize(("leave_s", "n_signals", "exit_code"), [(0.1, 1, 130), (600, 2, -2)])
def test_ctrl_c_waits_for_no_thread(leave_s, n_signals, exit_code):
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS_FOR_A_THREAD, str(leave_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        for _ in range(n_signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)  # two at once would be one
        assert process.wait(60) == exit_code
        assert (process.stderr.read() != b"") == (n_signals == 1)
