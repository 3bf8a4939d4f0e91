"""What `--json` writes has the keys that docs/terminal.md lists."""

import json
import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from dcd.store import Store
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
    return {"store": store.url, "config": str(write_case(tmp_path))}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("store usage --store {store}", 0),
        ("store verify --store {store}", 1),
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


def test_the_page_names_every_command_with_json():
    def below(group: object, names: tuple[str, ...] = ()) -> dict[str, object]:
        commands = getattr(group, "commands", None)
        if commands is None:
            return {" ".join(names): group}
        return {k: v for n, one in commands.items() for k, v in below(one, (*names, n)).items()}

    writing = {
        name
        for name, command in below(typer.main.get_command(app)).items()
        if any("--json" in option.opts for option in getattr(command, "params", ()))
    }
    output = PAGE[PAGE.index("## Output") : PAGE.index("## Completion")]
    named = set(re.findall(r"`dcd ([a-z ]+)`", output))
    assert writing == named
