import os
from pathlib import Path

import pytest

from dcd.errors import DataError
from dcd.runs.finished import finished, last_config, list_runs
from dcd.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two finished runs, one without a report, and a model whose folder holds a report too."""
    store = Store(str(tmp_path / "store"))
    for second, run in enumerate(("old", "new")):
        key = f"runs/{run}/report.html"
        store.write_bytes(key, b"<html>")
        os.utime(store.path(key), (second, second))
    store.write_bytes("runs/unfinished/card.json", b"{}")
    store.write_bytes("runs/unfinished/model/report.html", b"<html>")
    return store


def test_runs_with_a_report_are_listed_the_newest_first(store: Store):
    assert [entry.run_id for entry in list_runs(store)] == ["new", "old"]


def test_what_goes_last_decides_what_is_finished(store: Store):
    assert set(finished(store, "runs", "card.json")) == {"unfinished"}
    assert finished(store, "comparisons", "comparison.md") == {}


def test_without_a_finished_run_there_is_no_last_config(tmp_path: Path):
    with pytest.raises(DataError, match="holds no finished run; give the config"):
        last_config(Store(str(tmp_path)))
