"""Progress in a real terminal of 80 columns, in a narrow one, and in a log."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli.show.progress import _SPINNER, PlainLines
from tests.case import write_case
from tests.pseudo_terminal import DCD, environ, on_a_terminal

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SLOW = """
import time
from flows.cli.console import explained
from dcd.progress import live
with explained():
    with live.stage("embed pool", 40, "images") as stage:
        for i in stage.each(range(40)):
            time.sleep(0.05)
            stage.note(f"shard {i}")
        stage.outcome = "40 images embedded"
print("found")
"""


def lines(written: str) -> list[str]:
    """The lines that stood on the terminal at some time, without escapes."""
    moved = _MOVES.sub("\r", _COLOURS.sub("", written))
    return [line.rstrip() for line in re.split(r"[\r\n]+", moved) if line]


def test_a_bar_has_counts_rate_and_time_left_and_goes_when_the_stage_ends():
    written, out, code = on_a_terminal(sys.executable, "-c", _SLOW)
    assert code == 0
    assert out == "found\n"
    seen = lines(written)
    assert max(map(len, seen)) < 80
    drawn = r". embed pool: \d+ of 40 images, \d+/s, 00:0\d left  ━*╌*; shard \d+"
    assert any(re.fullmatch(drawn, line) for line in seen), seen
    assert seen[-1].startswith("✓ embed pool: 40 images embedded (00:0")


@pytest.mark.parametrize("columns", [20, 44])
def test_a_narrow_terminal_gets_one_line_a_stage_that_fits(columns: int):
    written, _, _ = on_a_terminal(sys.executable, "-c", _SLOW, columns=columns)
    drawn = [line for line in lines(written) if " embed pool" in line][:-1]
    assert drawn
    assert all(len(line) < columns or line.startswith("✓") for line in drawn)


def test_no_color_leaves_no_colour_in_the_lines():
    written, _, _ = on_a_terminal(sys.executable, "-c", _SLOW, NO_COLOR="1")
    assert "embed pool" in written
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", written)


def test_a_dumb_terminal_and_a_pipe_get_no_escapes():
    written, _, _ = on_a_terminal(sys.executable, "-c", _SLOW, TERM="dumb")
    assert "\x1b" not in written
    done = subprocess.run(
        (sys.executable, "-c", _SLOW), capture_output=True, text=True, env=environ(), check=True
    )
    assert done.stderr == ""  # shorter than five seconds
    assert done.stdout == "found\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]})


@pytest.mark.slow
def test_embed_run_and_verify_show_their_stages_at_80_columns(config: Path, tmp_path: Path):
    """The real commands, one after the other on one store."""
    file = tmp_path / "embedded.json"
    home = str(tmp_path / "prefect")
    store = str(tmp_path / "store")
    for command, stages in (
        (("embed", str(config), "--json", str(file)), ("wait for Prefect",)),
        (("run", str(config)), ("look at pool", "cluster by label", "select", "train")),
        (("store", "verify", "--store", store), ("list objects", "check")),
    ):
        written, out, code = on_a_terminal(*DCD, *command, PREFECT_HOME=home)
        assert code == 0, written
        for stage in stages:
            assert f" {stage}: " in written, stage
            assert f"{stage}: " not in out
        assert max(len(line) for line in lines(written) if line[0] in _SPINNER) < 80
    assert json.loads(file.read_text("utf-8"))["n_embedded"] > 0


def test_a_log_gets_a_line_when_a_stage_is_long_then_now_and_then_and_its_outcome():
    said: list[str] = []
    start = time.monotonic()
    with PlainLines(said.append, first_s=5, every_s=30) as log:
        log.started("embed", 100, "images")
        log.tell(start + 4)
        assert said == []
        log.advanced("embed", 10)
        for second in range(5, 40):
            log.tell(start + second + 0.5)
        assert len(said) == 2
        assert said[0].startswith("embed: 10 of 100 images, ")
        assert said[1].endswith(" left")
        log.finished("embed", "100 images embedded")
        log.started("select", 2, "selections")
        log.finished("select", "done")
    assert said[2:] == ["embed: 100 images embedded (00:00)"]


def test_a_log_is_told_of_a_stage_that_says_nothing_itself():
    said: list[str] = []
    with PlainLines(said.append, first_s=0.01, every_s=60) as log:
        log.started("cluster by label", None, "")
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
    assert said == ["cluster by label: 00:00 so far"]
