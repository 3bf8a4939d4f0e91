import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcd.store import Store, keys
from dcd.store.store_format import FORMAT
from flows.cli.app import app

NEEDED, LEFT = "cells/aaaaaaaaaaaa", "cells/bbbbbbbbbbbb"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A finished run, its cell, and a cell that nothing needs."""
    store = Store(str(tmp_path / "store"))
    for cell in (NEEDED, LEFT):
        store.write_bytes(f"{cell}/predictions.parquet", bytes(1_500_000))
    store.write_bytes("runs/r-1/parts.json", json.dumps([NEEDED]).encode())
    store.write_bytes("runs/r-1/report.html", b"<html>")
    return store


def dcd(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["store", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_usage_shows_what_each_folder_takes(store: Store):
    output = dcd("usage", "--store", store.url)
    assert "3.0 MB" in output
    assert output.index("cells") < output.index("runs")


def test_usage_of_an_empty_store(tmp_path: Path):
    assert "holds nothing" in dcd("usage", "--store", str(tmp_path / "no"))


def test_pruning_shows_first_and_deletes_only_when_told(store: Store):
    output = dcd("prune", "--store", store.url, "--older-than-days", "0")
    assert "Not needed: 1 part, 1.5 MB. Nothing was deleted" in output
    assert store.exists(f"{LEFT}/predictions.parquet")
    output = dcd("prune", "--store", store.url, "--older-than-days", "0", "--delete")
    assert "Deleted: 1 part, 1.5 MB." in output
    assert store.keys_under("cells") == [f"{NEEDED}/predictions.parquet"]


def test_another_folder_is_refused(tmp_path: Path):
    result = CliRunner().invoke(app, ["store", "prune", "--store", str(tmp_path), "--delete"])
    assert result.exit_code == 1
    assert "is this the store?" in result.output


def test_what_is_new_stays_by_default(store: Store):
    assert "Deleted: 0 parts" in dcd("prune", "--store", store.url, "--delete")


def test_a_run_of_an_older_version_is_named(store: Store):
    store.delete("runs/r-1/parts.json")
    output = dcd("prune", "--store", store.url, "--older-than-days", "0")
    assert "1 of the runs and comparisons that count are of an older version" in output
    assert "Not needed: 2 parts" in output


@pytest.mark.parametrize(
    "command",
    [
        ("store", "usage"),
        ("store", "prune"),
        ("store", "verify"),
        ("store", "backup", "kept"),
        ("champions",),
        ("rollback",),
        ("promote", "r-1"),
        ("failures", "list"),
        ("serve",),
    ],
)
def test_every_command_refuses_the_store_of_a_newer_version(store: Store, command):
    newer = {"format": FORMAT + 1, "note": "other vectors", "written_by": "dcd 9.1"}
    store.write_json(keys.STORE_FORMAT, newer)
    result = CliRunner().invoke(app, [*command, "--store", store.url])
    assert result.exit_code == 1
    assert "(other vectors), written by dcd 9.1; this is dcd" in result.output


@pytest.mark.parametrize("command", [("verify",), ("backup", "kept")])
def test_a_store_that_is_not_there_passes_no_check(tmp_path, monkeypatch, command):
    """A slip in a name must not pass for a store without a fault, night after night."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["store", *command, "--store", "sotre"])
    assert result.exit_code == 1
    assert "sotre: holds no object; name a store" in result.output
    assert list(tmp_path.iterdir()) == []
    result = CliRunner().invoke(app, ["store", "restore", "kpet", "--store", "store"])
    assert "kpet: holds no object" in result.output
