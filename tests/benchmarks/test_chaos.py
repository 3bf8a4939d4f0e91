"""A part of `python -m benchmarks.chaos` and of its pairs, as CI runs it: without Prefect."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from benchmarks.chaos import story
from benchmarks.chaos.__main__ import table
from benchmarks.chaos.lives import Life, Start, threads_beside
from benchmarks.chaos.outcome import differences, outcome
from benchmarks.chaos.pairs import Tried
from benchmarks.chaos.pairs import table as table_of_pairs
from benchmarks.chaos.weather import Stormy
from dcd.store import Store
from tests.faulty_proxy import FaultyProxy

N_KILLS = 100
N_TRIES = 1


def test_what_is_lost_new_or_different_is_named():
    found = differences({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert found == ["lost: a", "new: d", "different: c: 3 is 4"]


def test_an_outcome_holds_values_and_no_times(tmp_path: Path):
    one, other = Store(str(tmp_path / "one")), Store(str(tmp_path / "other"))
    for store, at in ((one, 1), (other, 2)):
        table = pa.table({"image_id": ["a"], "registered": [at]})
        store.write_table("failures/batches/b.parquet", table, metadata={"at": str(at)})
        store.write_json("results/x", {"at": at})
    assert outcome(one) == outcome(other)
    changed = pa.table({"image_id": ["b"], "registered": [1]})
    other.write_table("failures/batches/b.parquet", changed, metadata={})
    (told,) = differences(outcome(one), outcome(other))
    assert told.startswith("different: failures/batches/b.parquet: ")


def test_a_hidden_file_of_a_killed_writer_is_litter(tmp_path: Path):
    place = story.write_place(tmp_path, str(tmp_path / "store"), {})
    (tmp_path / "store/cells").mkdir(parents=True)
    assert list(story.litter(place)) == []
    (tmp_path / "store/cells/.1.tmp").touch()
    (place.scratch / "spool").touch()
    assert list(story.litter(place)) == ["spool", "cells/.1.tmp"]


def test_the_tables_count_kills_and_name_faults():
    told = {"seed": 3, "kills": {"run SIGKILL": 2, "run SIGINT": 1}, "faults": ["lost: a"]}
    told["refused"] = {"run expired token": 1}
    told["met"] = {"slow": 600, "500": 2}
    text = table([told, {**told, "seed": 4, "faults": []}])
    assert "| run | 4 | 0 | 2 |" in text
    assert "6 kills in 2 stories; stories with a fault: 1" in text
    assert "2 times: run expired token" in text
    assert "1,204 faults of the store: 500 4, slow 1,200" in text
    assert "seed 3: lost: a" in text
    pairs = table_of_pairs([Tried("two watchers", 20, 12, 7, ("try 4, +0.2 s: new: x",))])
    assert "| two watchers | 20 | 19 | 1 |" in pairs


def test_wrong_answers_are_counted_once():
    class Server:
        def kill(self) -> None: ...
        def start(self) -> None: ...

    proxy = FaultyProxy("http://127.0.0.1:1")
    try:
        weather = Stormy(cast(Any, Server()), proxy)
        proxy.decide = lambda request: "503" if request.nth else None
        for _ in range(3):
            proxy.note("GET", "/a")
        assert weather.met() == {"503": 2}
        assert weather.met() == {}
        rng = random.Random(0)
        while weather.refuse(rng) is None:  # what was counted before is kept
            proxy.note("GET", "/a")
        proxy.decide = lambda _: "403"
        proxy.note("PUT", "/a")
        assert weather.n_refused() == 1
        met = weather.met()
        assert met["403"] == 1
        assert met["503"] > 0
        while not weather.met()["server killed"]:
            weather.change(rng)
    finally:
        proxy.close()


def test_threads_are_seen_before_a_fork():
    go_on = threading.Event()
    before = threads_beside()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    assert len(threads_beside()) == len(before) + 1
    go_on.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "exec"])
def test_a_life_is_the_command_and_says_when_it_has_imported_all(tmp_path: Path, start: Start):
    log = tmp_path / "log"
    store = ["--store", str(tmp_path / "store")]
    life = Life(["store", "usage", *store], {}, log, "functions", start)
    life.wait_until_ready()
    assert life.end(120).exit_code == 0
    assert "holds nothing" in log.read_text()
    nobody_writes = tmp_path / "config.yaml"
    os.mkfifo(nobody_writes)
    stuck = Life(["failures", "watch", str(nobody_writes)], {}, log, "functions", start)
    stuck.wait_until_ready()
    stuck.send("SIGKILL")
    assert stuck.end(120).exit_code == -9
    assert stuck.left_behind() == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path):
    told = tmp_path / "told.json"
    command = ("benchmarks.chaos", "--way", "functions", "--kills", N_KILLS, "--json", told)
    run(*command)
    stories = json.loads(told.read_text())
    assert sum(sum(s["kills"].values()) for s in stories) >= N_KILLS
    assert [fault for s in stories for fault in s["faults"]] == []
    text = run(*command)  # nothing is left to do
    assert f"in {len(stories)} stories; stories with a fault: 0" in text


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_commands_at_once_are_as_one_after_the_other(tmp_path: Path):
    told = tmp_path / "told.json"
    few = ("--tries", N_TRIES, "--first-starts", 0, "--json", told)
    run("benchmarks.chaos.pairs", "--way", "functions", *few)
    tried = json.loads(told.read_text())
    assert len(tried) == 9
    assert [fault for one in tried for fault in one["faults"]] == []


def run(module: object, *arguments: object) -> str:
    """Run a benchmark as a program; its output, also where a check of it failed."""
    command = [sys.executable, "-m", *map(str, (module, *arguments))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
