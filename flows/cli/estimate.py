"""The command `dcd estimate`: what embedding, indexing and selecting from a pool will cost."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from flows.cli.console import ConfigPath, FoundPath, configure_prefect, explained, plain_console
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:  # they import torch, which --help does not need
    from dcd.estimate.embedding import Estimate, StageCost
    from dcd.store.requests import Requests


app = typer.Typer()


@app.command()
def estimate(
    config: ConfigPath,
    images_per_s: Annotated[
        float | None,
        typer.Option(min=0.001, help="Of one machine. Default: measured here, on a few images."),
    ] = None,
    machines: Annotated[int, typer.Option(min=1, help="Machines that embed at once.")] = 1,
    json_file: FoundPath = None,
) -> None:
    """Say what the pool will cost, stage by stage: images, hours, GB, tasks, requests.

    Embeds a few images for about 20 seconds; writes nothing to the store.
    """
    from dcd.config import load_run_or_index_config

    with explained():
        run, loaded = load_run_or_index_config(config)
        configure_prefect(verbose=False)
        from flows.estimate import estimate_of

        found = estimate_of(loaded, run, images_per_s, machines)
    console = plain_console()
    console.print(estimate_table(found))
    for line in estimate_lines(found):
        console.print(line)
    write_json(json_file, asdict(found))


def estimate_table(found: "Estimate") -> Table:
    """Make a table with a row a stage."""
    table = Table(title=f"{found.pool} by {found.encoder_id}", title_justify="left")
    for name in ("stage", "images or rows", "read", "written", "tasks"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("requests: GET, HEAD, LIST, PUT")
    table.add_column("time", justify="right")
    for stage in found.stages:
        table.add_row(
            stage.stage,
            f"{stage.n_rows:,}",
            decimal(stage.bytes_read),
            decimal(stage.bytes_written),
            f"{stage.n_tasks:,}",
            _requests(stage),
            "unknown" if stage.hours is None else _duration(stage.hours),
        )
    return table


def estimate_lines(found: "Estimate") -> list[str]:
    """Say what the numbers rest on, a sentence a line."""
    n_guessed = found.n_images_left - found.n_counted
    known = "counted" if n_guessed == 0 else f"{n_guessed:,} of them by the size of their archives"
    lines = [
        f"{found.n_shards_left:,} of {found.n_shards:,} shards are left, the others are done; "
        f"{found.n_images_left:,} images to embed ({known})."
    ]
    if found.n_images_left and found.images_per_s is not None:
        machines = "machine" if found.n_machines == 1 else "machines"
        lines.append(
            f"{found.images_per_s:,.0f} images/s on each of {found.n_machines:,} {machines}."
        )
    if not found.n_images_left:
        lines.append("Nothing to embed: all shards are embedded.")
    return [*lines, *(f"{stage.stage}: {stage.note}." for stage in found.stages if stage.note)]


def _requests(stage: "StageCost") -> str:
    places = {"pool": stage.pool_requests, "store": stage.store_requests}
    said = [f"{place}: {_by_kind(found)}" for place, found in places.items() if found is not None]
    return "; ".join(said) or "none: a folder"


def _by_kind(found: "Requests") -> str:
    return f"{found.n_get:,}, {found.n_head:,}, {found.n_list:,}, {found.n_put:,}"


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    minutes = 60 * hours
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"
