"""No table of any command cuts what it shows on a terminal of 80 columns."""

import ast
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from dcd.runs.pruning import Usage
from flows.cli.look import influence
from flows.cli.show.tables import Table
from flows.cli.store import _usage_table

ROOT = Path(__file__).parents[4]
NAME = "a-pool-with-quite-a-long-name-of-its-own-00017/n02123045_5678_of_the_second_batch.jpeg"


def cells(table: Table, column: int) -> str:
    """What a column shows at 80 columns, its lines joined."""
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    printed = out.getvalue()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    rows = [line.split("│") for line in printed.splitlines() if "│" in line]
    return "".join(row[1 + column].strip() for row in rows)


@pytest.mark.parametrize("n_figures", [1, 4, 8])
def test_a_long_name_is_whole_and_so_are_the_figures(n_figures: int):
    table = Table("name", *(f"f{i}" for i in range(n_figures)))
    table.add_row(NAME, *("48,100" for _ in range(n_figures)))
    assert cells(table, 0) == NAME
    assert cells(table, n_figures) == "48,100"


def test_folders_of_a_store_are_whole():
    assert cells(_usage_table([Usage(NAME, 3, 10**9)]), 0).startswith(NAME)


def test_labels_and_ids_of_influence_are_whole():
    row = {"margin": 0.5, "loss": 0.1, "source": "train", "label": NAME, "image_id": NAME}
    table = influence._table("Against the label", [row])
    assert cells(table, 3) == NAME
    assert cells(table, 4) == NAME


def test_runs_and_dates_of_champions_are_whole():
    table = Table("", "since (UTC)", "run", "seed", "by", "why")
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S")
    table.add_row("now", since, NAME, "0", "promoted", "better on debug_heldout by 3.1 points")
    assert cells(table, 2) == NAME


def test_every_command_makes_its_tables_there():
    """So that none can cut: rich's own table is imported in one module."""
    importing = {
        path.name
        for path in (ROOT / "flows").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "") == "rich.table")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "rich"
            and any(name.name == "table" for name in node.names)
        )
    }
    assert importing == {"tables.py"}
