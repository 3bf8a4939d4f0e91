"""What a store takes, whether it is whole, and what of it may go: `dcd store`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from flows.cli.console import (
    EXIT_FAILED,
    FoundPath,
    StoreUrl,
    explained,
    in_a_folder,
    plain_console,
)
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:
    from dcd.runs.pruning import Part, Pruning, Usage
    from dcd.store.kinds import Kind
    from dcd.store.verify import CheckedObject


app = typer.Typer(no_args_is_help=True, help="What a store takes, is it whole, what may go.")
_KINDS = {
    "cells": "trained models",
    "index": "indexes of pools",
    "selections": "selections",
    "splits": "splits",
    "copies": "near copies within splits",
    "evaluations": "champions on later runs' images",
    "heads": "baselines' heads",
    "lpips": "LPIPS distances",
    "maps": "maps of embeddings",
    "neighbors": "neighbours of failures",
    "noise": "estimates of label noise",
    "results": "Prefect's results",
}


@app.command()
def usage(store: StoreUrl = "store", json_file: FoundPath = None) -> None:
    """Show what each folder of the store takes."""
    from dcd.runs.pruning import usage as used
    from dcd.store.store_format import open_store

    with explained():
        rows = used(open_store(store).objects_under())
        write_json(json_file, [asdict(row) for row in rows])
    if not rows:
        typer.echo(f"{store}: holds nothing")
        return
    plain_console().print(_usage_table(rows))


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
    json_file: FoundPath = None,
) -> None:
    """Delete trained cells, selections, indexes and splits that no recent run is a view of.

    Of what only saves work (neighbours, heads, noise, Prefect's results) all that is old goes.
    Reports, models of runs, champions, failures and embeddings stay. What is deleted is made again
    where it is asked for again.
    """
    from dcd.runs.pruning import plan_pruning
    from dcd.runs.pruning import prune as delete_parts
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        before = datetime.now(UTC) - timedelta(days=older_than_days)
        found = plan_pruning(opened, keep_runs, before)
        plain_console().print(_prune_table(found))
        if found.n_silent:
            typer.echo(
                f"{found.n_silent} of the runs and comparisons that count are of an older version "
                "and do not say what they need; run them again first if it is dear to make again"
            )
        unneeded = [{"part": one.key, "n_bytes": one.n_bytes} for one in found.unneeded]
        counts = {"n_kept": len(found.kept), "n_silent": found.n_silent, "is_deleted": delete}
        n = len(found.unneeded)
        total = f"{n:,} {'part' if n == 1 else 'parts'}, {_size(found.unneeded)}"
        if not delete:
            write_json(json_file, {"unneeded": unneeded, **counts})
            typer.echo(f"Not needed: {total}. Nothing was deleted; --delete does it.")
            return
        delete_parts(opened, found.unneeded)
        write_json(json_file, {"unneeded": unneeded, **counts})
    typer.echo(f"Deleted: {total}.")


@app.command()
def verify(
    store: StoreUrl = "store",
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte; without it of Parquet the footers.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged; the next run makes it.")
    ] = False,
    json_file: FoundPath = None,
) -> None:
    """Check the objects of a store: exit code 0 if all are whole, else 1."""
    from dcd.store import verify as checking
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        checked = checking.verify(opened, deep=deep)
        faults = [one for one in checked if one.fault is not None]
        plain_console().print(_verified_table(checked))
        for one in faults:
            typer.echo(one.fault)
        mended = checking.repair(opened, faults) if repair else []
        found = {
            "n_objects": len(checked),
            "n_bytes": sum(one.n_bytes for one in checked),
            "n_without_checksum": sum(one.is_sealed is False for one in checked),
            "faults": [{"object": one.key, "fault": one.fault} for one in faults],
            "set_aside": mended,
        }
        write_json(json_file, found)
    if mended:
        typer.echo(f"Set aside: {len(mended)}; the next run makes them again.")
    if faults:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def backup(
    to: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix.")],
    store: StoreUrl = "store",
    json_file: FoundPath = None,
) -> None:
    """Copy what nothing can make again: registered failures, champions and their history."""
    from dcd.store import verify as checking
    from dcd.store.store_format import open_store

    with explained():
        copied = checking.backup(open_store(store), open_store(to))
        write_json(json_file, {"copied": list(copied)})
    typer.echo(f"{len(copied)} objects copied to {to}")


@app.command()
def restore(
    backed_up: Annotated[str, typer.Argument(help="What `backup` wrote.", metavar="BACKUP")],
    store: StoreUrl = "store",
    json_file: FoundPath = None,
) -> None:
    """Copy back from a backup what is missing or damaged; all else stays as it is."""
    from dcd.store import verify as checking
    from dcd.store.store_format import open_store

    with explained():
        copied = checking.restore(open_store(store), open_store(backed_up))
        write_json(json_file, {"restored": list(copied)})
    for key in copied:
        typer.echo(f"restored: {key}")
    typer.echo(f"{len(copied)} objects restored")


def _verified_table(checked: "Sequence[CheckedObject]") -> Table:
    table = Table("folder", "made again by")
    for heading in ("objects", "size", "without checksum", "damaged"):
        table.add_column(heading, justify="right")
    words = {"derived": "a run", "view": "its run", "kept": "nothing", "foreign": "–"}
    of: dict[tuple[str, Kind], list[CheckedObject]] = defaultdict(list)
    for one in checked:
        of[one.key.partition("/")[0], one.kind].append(one)
    for (folder, kind), here in of.items():
        table.add_row(
            folder,
            words[kind],
            f"{len(here):,}",
            decimal(sum(one.n_bytes for one in here)),
            f"{sum(one.is_sealed is False for one in here):,}",
            f"{sum(one.fault is not None for one in here):,}",
        )
    return table


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


def forget(
    pictures: Annotated[
        list[str], typer.Argument(help="Image ids, picture files, or contents in hex.")
    ],
    store: StoreUrl = "store",
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this it is only shown.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file for the one who asked; names no picture.", callback=in_a_folder
        ),
    ] = None,
) -> None:
    """Take pictures out of all that the store derived, mark models that saw them, block them."""
    from dcd.runs.forgetting import as_json, find_pictures, plan_forgetting
    from dcd.runs.forgetting import forget as do
    from dcd.store.store_format import open_for_writing, open_store

    with explained():
        opened = open_for_writing(store) if delete else open_store(store)
        planned = plan_forgetting(opened, find_pictures(opened, pictures))
        if delete:
            do(opened, planned)
    for holder in planned.holders:
        typer.echo(f"{holder.key} {holder.fate}" + (f" ({holder.n_rows})" * bool(holder.n_rows)))
    for run in planned.runs:
        typer.echo(f"run {run}: its models saw them, or were judged by them")
    if planned.pictures.n_shared:
        typer.echo(f"{planned.pictures.n_shared} of their ids name other pictures too")
    done = "Done, and blocked for the future." if delete else "Nothing was changed: give --delete."
    typer.echo(f"{len(planned.pictures.contents)} pictures, {len(planned.holders)} objects. {done}")
    typer.echo("Your own files, and the inbox, are yours to delete.")
    if report is not None:
        report.write_text(as_json(planned) + "\n", encoding="utf-8")
