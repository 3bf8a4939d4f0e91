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
from typer.testing import CliRunner

from flows.cli.app import app
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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("exif", "c.yaml", "-o", "nowhere/x.parquet"), "give a file in a folder that exists"),
        (("exif", "c.yaml", "-o", "."), "give a file in a folder that exists"),
        (("neighbors", "c.yaml", "a.png", "--html", "nowhere/x.html"), "in a folder that exists"),
        (("influence", "x", "--html", "nowhere/x.html"), "in a folder that exists"),
        (("forget", "x", "--report", "nowhere/x.json"), "in a folder that exists"),
        (("init", ".", "--output", "nowhere/c.yaml"), "in a folder that exists"),
        (("init", "nowhere"), "does not exist"),
        (("errors", "model", "data", "--output", "file"), "is a file; give a folder"),
        (("export", "picks", "--output", "file/below"), "is a file; give a folder"),
        (("export", "champion", "--to", "onnx", "--output", "file"), "is a file; give a folder"),
        (("publish", "a/b", "--output", "file"), "is a file; give a folder"),
    ],
)
def test_a_result_that_has_no_place_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("closed", [">&-", "> /dev/full", "2>&-"])
def test_output_that_cannot_be_written_leaves_no_trace(closed: str):
    """As under cron, where nobody listens, or with a log on a full disk."""
    shell = f"exec {sys.executable} -c 'from flows.cli.app import main; main()' --help {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if "full" in closed else 0)
    assert ("cannot be written" in done.stderr) == ("full" in closed)
