"""What a store takes, and what of it may go: `dcd store usage`, `dcd store prune`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from flows.cli.console import StoreUrl, explained

if TYPE_CHECKING:
    from dcd.runs.pruning import Part, Pruning, Usage


app = typer.Typer(no_args_is_help=True, help="What a store takes, and what of it may go.")
_KINDS = {
    "cells": "trained models",
    "index": "indexes of pools",
    "selections": "selections",
    "splits": "splits",
}


@app.command()
def usage(store: StoreUrl = "store") -> None:
    """Show what each folder of the store takes."""
    from dcd.runs.pruning import usage as used
    from dcd.store import Store

    with explained():
        rows = used(Store(store).objects_under())
    if not rows:
        typer.echo(f"{store}: holds nothing")
        return
    Console().print(_usage_table(rows))


@app.command()
def prune(
    store: StoreUrl = "store",
    keep_runs: Annotated[
        int, typer.Option(min=1, help="The newest runs and comparisons of each name that count.")
    ] = 3,
    older_than_days: Annotated[
        int, typer.Option(min=0, help="What was written since then stays.")
    ] = 7,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it; without this it is only shown.")
    ] = False,
) -> None:
    """Delete trained cells, selections, indexes and splits that no recent run is a view of.

    Reports, models of runs, champions, failures and embeddings stay. What is deleted is made again
    where it is asked for again.
    """
    from dcd.runs.pruning import plan_pruning
    from dcd.runs.pruning import prune as delete_parts
    from dcd.store import Store

    with explained():
        opened = Store(store)
        before = datetime.now(UTC) - timedelta(days=older_than_days)
        found = plan_pruning(opened, keep_runs, before)
        Console().print(_prune_table(found))
        if found.n_silent:
            typer.echo(
                f"{found.n_silent} of the runs and comparisons that count are of an older version "
                "and do not say what they need; run them again first if it is dear to make again"
            )
        n = len(found.unneeded)
        total = f"{n:,} {'part' if n == 1 else 'parts'}, {_size(found.unneeded)}"
        if not delete:
            typer.echo(f"Not needed: {total}. Nothing was deleted; --delete does it.")
            return
        delete_parts(opened, found.unneeded)
    typer.echo(f"Deleted: {total}.")


def _usage_table(rows: "Sequence[Usage]") -> Table:
    table = Table("folder")
    for heading in ("objects", "size"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.folder, f"{row.n_objects:,}", decimal(row.n_bytes))
    table.add_section()
    total = decimal(sum(row.n_bytes for row in rows))
    table.add_row("all", f"{sum(row.n_objects for row in rows):,}", total)
    return table


def _prune_table(found: "Pruning") -> Table:
    table = Table("")
    for heading in ("needed", "size", "not needed", "size"):
        table.add_column(heading, justify="right")
    for kind, name in _KINDS.items():
        kept = [part for part in found.kept if part.kind == kind]
        unneeded = [part for part in found.unneeded if part.kind == kind]
        table.add_row(name, str(len(kept)), _size(kept), str(len(unneeded)), _size(unneeded))
    return table


def _size(parts: "Sequence[Part]") -> str:
    return decimal(sum(part.n_bytes for part in parts))
