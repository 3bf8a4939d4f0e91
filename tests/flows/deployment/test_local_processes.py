"""Processes by pid file, with real ones: what is started is found, and nothing outlives `stop`."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from flows.deployment import local_processes

# A parent that does not end when asked, with a child; its command line names prefect.
_STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
_WAITING = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(local_processes, "_GRACE_S", 1)


def begin(home, code):
    command = [sys.executable, "-c", code, "prefect"]
    return local_processes.start(home, "worker", command, os.environ)


def wait_for_line(home):
    deadline = time.monotonic() + 60
    while not (home / "worker.log").read_text().endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.05)
    return (home / "worker.log").read_text().strip()


def test_a_process_is_started_once_and_its_words_are_kept(tmp_path):
    pid = begin(tmp_path, f"print('hello', flush=True); {_WAITING}")
    try:
        assert pid is not None
        assert local_processes.alive(tmp_path, "worker")
        assert begin(tmp_path, _WAITING) is None
        assert int((tmp_path / "worker.pid").read_text()) == pid
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal must not reach it"
        assert wait_for_line(tmp_path) == "hello"
    finally:
        assert local_processes.stop(tmp_path, "worker")
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "worker.pid").exists()
    assert not local_processes.stop(tmp_path, "worker")


def test_a_process_is_ended_if_it_was_started_of_something_else(tmp_path):
    assert not local_processes.end_if_changed(tmp_path, "worker", "a")
    pid = begin(tmp_path, _WAITING)
    assert pid is not None
    try:
        assert not local_processes.end_if_changed(tmp_path, "worker", "a")
        assert psutil.pid_exists(pid)
        assert local_processes.end_if_changed(tmp_path, "worker", "b")
        assert not psutil.pid_exists(pid)
        assert not local_processes.end_if_changed(tmp_path, "worker", "b")
    finally:
        local_processes.stop(tmp_path, "worker")


def test_a_process_that_has_just_begun_is_found(tmp_path, monkeypatch):
    """The system knows no command of it until its program is loaded."""
    pid = begin(tmp_path, _WAITING)
    assert pid is not None
    cmdline, asked = psutil.Process.cmdline, []

    def not_yet(process):
        asked.append(process.pid)
        return [] if len(asked) < 4 else cmdline(process)

    monkeypatch.setattr(psutil.Process, "cmdline", not_yet)
    assert local_processes.stop(tmp_path, "worker")
    assert not psutil.pid_exists(pid)


def test_what_does_not_end_is_killed_with_all_that_it_started(tmp_path):
    pid = begin(tmp_path, _STUBBORN)
    assert pid is not None
    child = int(wait_for_line(tmp_path))
    assert psutil.pid_exists(child)
    assert local_processes.stop(tmp_path, "worker")
    assert not psutil.pid_exists(pid)
    assert not psutil.pid_exists(child)


@pytest.mark.parametrize("written", ["", "nonsense", "999999999"])
def test_a_pid_file_that_names_no_process_is_removed(tmp_path, written):
    (tmp_path / "worker.pid").write_text(written)
    assert not local_processes.alive(tmp_path, "worker")
    assert not local_processes.stop(tmp_path, "worker")
    assert not (tmp_path / "worker.pid").exists()


def test_a_process_that_has_the_number_of_an_old_one_is_left_alone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _WAITING]) as another:
        try:
            (tmp_path / "worker.pid").write_text(str(another.pid))
            assert not local_processes.alive(tmp_path, "worker")
            assert not local_processes.stop(tmp_path, "worker")
            assert another.poll() is None
        finally:
            another.kill()
