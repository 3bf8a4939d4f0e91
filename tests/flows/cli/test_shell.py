"""What a shell sees: colours, exit codes, completion; in processes of their own."""

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.pseudo_terminal import DCD, environ, on_a_terminal

ROOT = Path(__file__).parents[3]
_ESCAPE = "\x1b["


@pytest.mark.parametrize(("settings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_errors_are_red_on_a_terminal_unless_no_color_is_set(settings, coloured):
    written, _, code = on_a_terminal(*DCD, "validate", "nowhere.yaml", **settings)
    assert code == 2
    assert "nowhere.yaml: cannot be read" in written
    assert (_ESCAPE in written) == coloured


def test_a_message_in_a_pipe_is_one_line_without_colour(tmp_path):
    config = tmp_path / ("a-long-name-" * 12 + ".yaml")
    done = subprocess.run(
        [*DCD, "validate", str(config)], capture_output=True, text=True, env=environ(), check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(config) in done.stderr
    assert _ESCAPE not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("--help",), 0),
        (("run",), 2),  # an argument is missing
        (("validate", "nowhere.yaml"), 2),
        (("export", "picks", "--store", "empty"), 1),
    ],
)
def test_exit_codes_are_those_of_the_table(command, code, tmp_path):
    done = subprocess.run(
        [*DCD, *command], capture_output=True, cwd=tmp_path, env=environ(), check=False
    )
    assert done.returncode == code, done.stderr
    table = (ROOT / "docs/terminal.md").read_text("utf-8")
    assert re.search(rf"^\| {code} \|", table, flags=re.M)


def test_ctrl_c_is_told_in_the_exit_code(tmp_path):
    config = tmp_path / "config.yaml"
    os.mkfifo(config)  # the command waits for its config, and so for the signal
    # A shell that starts tests in the background lets them ignore Ctrl-C, and what they start too.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        subprocess.Popen(
            [*DCD, "validate", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env=environ(),
            preexec_fn=listening,
        ) as process,
        config.open("w"),  # opens once the command reads
    ):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("shell", "settings"),
    [
        ("bash", {"COMP_WORDS": "dcd ex", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "dcd ex"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "dcd ex", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_commands_are_completed(shell, settings):
    done = subprocess.run(
        DCD,
        capture_output=True,
        text=True,
        env=environ(_DCD_COMPLETE=f"complete_{shell}", **settings),
        check=True,
    )
    assert "export" in done.stdout
    assert "exif" in done.stdout
    assert "rollback" not in done.stdout
