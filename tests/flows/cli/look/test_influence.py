"""`dcd influence`: a table that fits the terminal, a page and JSON."""

import json

from typer.testing import CliRunner

from dcd.config import load_config
from dcd.runs import loop
from flows.cli.app import app
from tests.case import write_case

_COLUMNS = 80


def test_it_prints_both_sides_and_writes_page_and_json(tmp_path):
    config = load_config(write_case(tmp_path, seeds=(0,), compare={"baselines": []}))
    loop.run(config)
    page, told = tmp_path / "why.html", tmp_path / "why.json"
    asked = ["influence", "error_sample-red-0", "--store", config.store, "--html", str(page)]
    terminal = CliRunner(env={"COLUMNS": str(_COLUMNS)})
    done = terminal.invoke(app, [*asked, "--json", str(told), "--check", "5"])
    assert done.exit_code == 0, done.output
    assert "error_sample-red-0 (error_sample) is red" in done.output
    assert "Against the label" in done.output
    assert "For the label" in done.output
    assert "rank correlation" in done.output
    table = [line for line in done.output.splitlines() if line.startswith(("│", "┃", "┏"))]
    assert table
    assert max(map(len, table)) <= _COLUMNS
    assert "error_sample-red-0" in page.read_text(encoding="utf-8")
    assert json.loads(told.read_text())["label"] == "red"

    refused = terminal.invoke(app, ["influence", "nobody", "--store", config.store])
    assert refused.exit_code == 1
    wrong = terminal.invoke(app, [*asked, "--run", "no-such-run"])
    assert wrong.exit_code == 1
