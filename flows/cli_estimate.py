"""The command `dcd estimate`: what embedding and indexing a pool will cost."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dcd.config import load_index_config
from flows.console import ConfigPath, explained

if TYPE_CHECKING:  # it imports torch, which --help does not need
    from dcd.estimate import Estimate

app = typer.Typer()


@app.command()
def estimate(
    config: ConfigPath,
    images_per_s: Annotated[
        float | None,
        typer.Option(min=0.001, help="Of one machine. Default: measured here, on a few images."),
    ] = None,
    machines: Annotated[int, typer.Option(min=1, help="Machines that embed at once.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Say what embedding and indexing the pool will cost: hours, GB, tasks, requests.

    Embeds a few images for about 20 seconds; writes nothing to the store.
    """
    with explained():
        loaded = load_index_config(config)
        from dcd.datasets import source_of
        from dcd.encoders import load_encoder
        from dcd.estimate import estimate as costs_of
        from dcd.estimate import plan_shards, sample_pool
        from dcd.pool import list_shards
        from dcd.store import Store
        from flows.embed_pool import max_tasks

        source = source_of(loaded.pool)
        encoder = load_encoder(loaded.encoder)
        shards = list_shards(source.data)
        planned = plan_shards(Store(loaded.store), source.id, encoder.encoder_id, shards)
        first_left = next((one.shard for one in planned if one.done is None), None)
        sample = None if first_left is None else sample_pool(first_left, source.data, encoder)
        found = costs_of(
            planned,
            sample,
            loaded.index,
            encoder.dim,
            min(len(shards), max_tasks(loaded.runner.max_workers)),
            images_per_s,
            machines,
        )
    Console().print(estimate_table(f"{source.id} by {encoder.encoder_id}", found))
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


def estimate_table(title: str, found: "Estimate") -> Table:
    """The estimate for people."""
    from dcd.report import filesize

    n_guessed = found.n_images_left - found.n_counted
    known = "counted" if n_guessed == 0 else f"{n_guessed:,} of them by the size of their archives"
    machines = "machine" if found.n_machines == 1 else "machines"
    table = Table("", "", title=title, title_justify="left", show_header=False)
    table.add_row(
        "shards", f"{found.n_shards_left:,} of {found.n_shards:,} are left, the others are done"
    )
    table.add_row("images to embed", f"{found.n_images_left:,} ({known})")
    table.add_row("read from the pool", filesize(found.bytes_read))
    table.add_row("embeddings written", filesize(found.embedding_bytes))
    table.add_row("index written", filesize(found.index_bytes))
    table.add_row("embedding tasks", f"{found.n_tasks:,}")
    table.add_row("requests to the store", f"about {found.n_requests:,}")
    table.add_row(
        "time to embed",
        f"{_duration(found.hours)} ({found.images_per_s:,.0f} images/s on each of "
        f"{found.n_machines:,} {machines})"
        if found.n_images_left
        else "none: all shards are embedded",
    )
    return table


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    minutes = 60 * hours
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"
