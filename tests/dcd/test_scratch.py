import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dcd.scratch import remove_abandoned, scratch_folder

HOLDS_ONE = """
import sys, time
from pathlib import Path
from dcd.scratch import scratch_folder
with scratch_folder("spill", within=Path(sys.argv[1])) as folder:
    (folder / "part").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds a folder in the same place."""
    command = [sys.executable, "-c", HOLDS_ONE, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _its_folder(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_a_folder_is_empty_and_goes_with_what_is_in_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with contextlib.suppress(RuntimeError), scratch_folder("sort") as folder:
        assert list(folder.iterdir()) == []
        assert folder.is_relative_to(tmp_path)
        (folder / "sub").mkdir()
        raise RuntimeError
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, other):
    left = _its_folder(other)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (left / "part").exists()
    with scratch_folder("sort", within=tmp_path) as folder:
        assert not left.exists()
        assert [found for found in tmp_path.iterdir() if not folder.is_relative_to(found)] == []


def test_a_folder_whose_process_lives_stays(tmp_path: Path, other):
    held = _its_folder(other)
    with scratch_folder("sort", within=tmp_path) as mine:
        remove_abandoned(tmp_path)
        assert (held / "part").exists()
        assert mine.exists()


def test_only_its_own_folders_are_removed(tmp_path: Path):
    (tmp_path / "dcd-scratch-photos").mkdir()
    (tmp_path / "dcd-scratch-photos" / "dear.jpg").touch()
    (tmp_path / "dcd-scratch-notes").touch()
    target = tmp_path / "elsewhere"
    (target / "dcd-scratch").mkdir(parents=True)
    (tmp_path / "dcd-scratch-link").symlink_to(target)
    (tmp_path / "dcd-scratch-half-made").mkdir()
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "dcd-scratch-link",
        "dcd-scratch-notes",
        "dcd-scratch-photos",
        "elsewhere",
    ]
    assert (target / "dcd-scratch").exists()
