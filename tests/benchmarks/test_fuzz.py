"""What `python -m benchmarks.fuzz` starts from is read without a refusal; faults are told."""

import sys
from pathlib import Path

import pytest

from benchmarks.fuzz.__main__ import Fuzzed, ended, fault_in, table
from benchmarks.fuzz.targets import Target, emptied, targets
from dcd.errors import DataError


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return dict(targets(tmp_path_factory.mktemp("seeds")))


def test_seeds_are_good_files(every, tmp_path: Path):
    refused = {}
    for name, target in every.items():
        for seed in target.seeds:
            try:
                target.read(seed, tmp_path)
            except Exception as err:
                refused[name] = repr(err)
            emptied(tmp_path)
    # It has not the network's weights: what is fuzzed is the way there.
    assert {name for name in refused if not name.startswith("weights.")} == set(), refused


def test_a_refusal_is_no_fault_and_all_else_is(tmp_path: Path):
    def refuse(data: bytes, folder: Path) -> None:
        raise DataError("no") if data == b"a" else KeyError("raw")

    target = Target((), refuse)
    target.try_one(b"a", tmp_path)
    with pytest.raises(KeyError):
        target.try_one(b"b", tmp_path)


def test_the_folder_of_a_try_is_emptied(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").touch()
    emptied(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_table_names_what_ended_a_target():
    said = b"x\n === Uncaught Python exception: ===\nKeyError: 'raw'\nTraceback\n"
    assert fault_in(said) == "KeyError: 'raw'"
    assert fault_in(b"==1== ERROR: libFuzzer: timeout after 10 seconds") == (
        "==1== ERROR: libFuzzer: timeout after 10 seconds"
    )
    assert "| config | 1,000 | 9 | 80 | none |" in table([Fuzzed("config", 1000, 9, 80, "")])


_STUCK = "import faulthandler, signal, time; faulthandler.register(signal.SIGUSR1); time.sleep(600)"


def test_a_target_that_does_not_end_tells_where_it_is(tmp_path: Path):
    log = tmp_path / "log"
    assert ended([sys.executable, "-c", "print('fine')"], log, 60) == 0
    assert log.read_text() == "fine\n"
    assert ended([sys.executable, "-c", _STUCK], log, 1.0) == 1
    assert fault_in(log.read_bytes()) == "ERROR: not over after 1 s"
