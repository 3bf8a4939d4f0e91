"""What `--json` writes has the keys that docs/terminal.md lists."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from dcd.embeddings.status import PoolStatus, Verification
from dcd.estimate.embedding import Estimate
from dcd.export.picks import WrittenPicks
from dcd.export.serving import Agreement
from dcd.failures.intake import Intake
from dcd.index.info import IndexInfo
from dcd.selection.review_plan import ReviewPlan
from dcd.selection.select import SelectionInfo
from dcd.serve.review_hand_off import HandedOff, TakenBack
from dcd.store import Store, keys
from dcd.tables import schemas
from flows.cli.app import app
from tests.case import write_case

PAGE = (Path(__file__).parents[4] / "docs/terminal.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `dcd ([a-z ]+)` \| (.+) \|$", PAGE, flags=re.M))


def documented(command: str) -> set[str]:
    """The keys of a command's own objects, without those within brackets."""
    return set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", ROWS[command])))


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    store = Store(str(tmp_path / "other"))
    store.write_bytes("cells/aaaaaaaaaaaa/predictions.parquet", b"no Parquet")
    store.write_bytes("runs/r-1/parts.json", b"[]")
    store.write_bytes("runs/r-1/report.html", b"<html>")
    backup = Store(str(tmp_path / "backup"))
    backup.write_json(f"{keys.FORGOTTEN}/a.json", {})
    config = write_case(tmp_path)
    (tmp_path / "drop" / "red").mkdir(parents=True)
    (tmp_path / "drop" / "red" / "one.png").write_bytes(b"no picture")
    return {
        "store": store.url,
        "config": str(config),
        "backup": backup.url,
        "drop": str(tmp_path / "drop"),
    }


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("store usage --store {store}", 0),
        ("store verify --store {store}", 1),
        ("store prune --store {store}", 0),
        ("store backup {backup} --store {store}", 0),
        ("store restore {backup} --store {store}", 0),
        ("failures add {drop} --config {config}", 0),
        ("failures list --config {config}", 0),
        ("validate {config}", 0),
        ("doctor --store {store}", None),
    ],
)
def test_keys_are_those_of_the_page(command: str, code: int | None, places, tmp_path: Path):
    file = tmp_path / "found.json"
    words = [*command.format(**places).split(), "--json", str(file)]
    done = CliRunner().invoke(app, words)
    assert code is None or done.exit_code == code, done.output
    found = json.loads(file.read_text("utf-8"))
    first = found[0] if isinstance(found, list) else found
    name = re.sub(r" (--|\{).*", "", command)
    assert set(first) == documented(name)


def fields(of: type) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("cost", {"encoders", "files"}),
        ("estimate", fields(Estimate)),
        ("export champion", fields(Agreement) | {"run_id", "seed", "folder"}),
        ("export picks", fields(WrittenPicks) | {"folder"}),
        ("failures watch", fields(Intake) | {"n_waiting"}),
        ("index build", fields(IndexInfo)),
        ("neighbors", set(schemas.NEIGHBORS.names)),
        ("pool status", fields(PoolStatus)),
        ("pool verify", fields(Verification)),
        ("review export", fields(HandedOff)),
        ("review import", fields(TakenBack)),
        ("review plan", fields(ReviewPlan)),
        ("select", fields(SelectionInfo) | {"method", "seed", "debug_train", "pool_lacks"}),
    ],
)
def test_what_is_written_whole_has_the_keys_of_the_page(command: str, keys: set[str]):
    assert documented(command) == keys


@pytest.mark.parametrize("place", ["no/such/folder/found.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(place: str, tmp_path: Path):
    words = ["store", "usage", "--store", str(tmp_path), "--json", str(tmp_path / place)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "in a folder that exists" in " ".join(done.output.replace("\u2502", " ").split())


def test_a_full_disk_at_the_end_says_that_the_work_is_done(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    words = ["store", "usage", "--store", str(tmp_path), "--json", "/dev/full"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "the work itself is done" in done.output


def test_the_page_names_every_command_with_json_and_those_without():
    def below(group: object, names: tuple[str, ...] = ()) -> dict[str, object]:
        commands = getattr(group, "commands", None)
        if commands is None:
            return {" ".join(names): group}
        return {k: v for n, one in commands.items() for k, v in below(one, (*names, n)).items()}

    every = below(typer.main.get_command(app))
    writing = {
        name
        for name, command in every.items()
        if any("--json" in option.opts for option in getattr(command, "params", ()))
    }
    output = PAGE[PAGE.index("### For programs") : PAGE.index("## Completion")]
    with_json, without = output.split("Without `--json`")
    in_tables = re.findall(r"^\| (`dcd [^|]+) \|", without, flags=re.M)
    named_without = {name for cell in in_tables for name in re.findall(r"`dcd ([a-z ]+)`", cell)}
    assert set(re.findall(r"`dcd ([a-z ]+)`", with_json)) == writing
    assert named_without - {"champions"} == set(every) - writing
