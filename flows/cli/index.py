"""The commands about indexes: `dcd index build`, `dcd index info`, `dcd cost`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.errors import DataError
from flows.cli.console import (
    ConfigPath,
    JsonPath,
    Verbose,
    explained,
    plain_console,
    prefect_server,
)
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:  # they import torch, which --help does not need
    from dcd.config import EmbedConfig
    from dcd.estimate.encoder_cost import Cost
    from dcd.index.info import IndexInfo
    from dcd.store import Store


app = typer.Typer(no_args_is_help=True, help="The pool's vectors, clustered by label.")


@app.command()
def build(
    config: ConfigPath,
    compact: Annotated[
        bool, typer.Option("--compact", help="Rewrite an appended index as one whole.")
    ] = False,
    json_file: JsonPath = None,
    verbose: Verbose = False,
) -> None:
    """Embed what is new in the pool and index it; new shards are appended."""
    from dcd.config import load_index_config

    with explained(verbose=verbose):
        loaded = load_index_config(config)
        with prefect_server(verbose) as ready:
            from flows.build_index import build_index

            ready()
            index = build_index(loaded.model_copy(update={"compact": compact or loaded.compact}))
    typer.echo("\n".join(info_lines(index)))
    write_json(json_file, asdict(index))


@app.command()
def info(config: ConfigPath, json_file: JsonPath = None) -> None:
    """Show the indexes of a pool: rows, labels, lists, storage, and why they are as they are."""
    from dcd.config import load_index_config

    with explained():
        _, found = _indexes(load_index_config(config))
    for index in found:
        typer.echo("\n".join([*info_lines(index), ""]))
    write_json(json_file, [asdict(index) for index in found])


def cost(
    config: Annotated[
        Path | None, typer.Argument(help="Also measure the files of this config's store.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="timm names; default: three common ones.")
    ] = None,
    json_file: JsonPath = None,
) -> None:
    """Show numbers, bytes and FLOPs an image for encoders, beside LPIPS."""
    with explained():
        from dcd.config import load_index_config
        from dcd.estimate.encoder_cost import MODELS, costs, measured_bytes

        loaded = load_index_config(config) if config is not None else None
        own = () if loaded is None else (loaded.encoder.model,)
        rows = costs(model or list(dict.fromkeys((*own, *MODELS))))
        measured = []
        if loaded is not None:
            store, found = _indexes(loaded)
            measured = [(index, measured_bytes(store, index)) for index in found]
    plain_console().print(cost_table(rows))
    for index, files in measured:
        typer.echo(
            f"index {index.index_id} ({index.storage}): {files.index_bytes:,.0f} bytes a row in "
            f"its files, {files.embedding_bytes:,.0f} bytes an image in the embedding files"
        )
    in_files = [
        {"index_id": index.index_id, "storage": index.storage, **asdict(files)}
        for index, files in measured
    ]
    write_json(json_file, {"encoders": [asdict(row) for row in rows], "files": in_files})


def info_lines(index: "IndexInfo") -> list[str]:
    """Tell of an index in lines for people."""
    counts = sorted(index.label_counts.values())
    lines = [
        f"index {index.index_id} of {index.pool} by {index.encoder_id}",
        f"rows: {index.n_rows:,} of {index.n_images:,} images, {index.n_unlabelled:,} without "
        f"label, {index.n_duplicates:,} repeated, {index.n_extra_labels:,} under a further label",
        f"vectors: {index.dim:,} numbers as {index.storage}, {len(index.segments)} segments",
    ]
    if counts:
        middle = counts[len(counts) // 2]
        lines.insert(
            2, f"labels: {len(counts):,} of {counts[0]:,} to {counts[-1]:,} rows, median {middle:,}"
        )
    if index.pseudo is not None:
        of = index.pseudo
        lines.append(
            f"without a label: {of.n_images:,} images; {of.n_labelled:,} labelled by what they "
            f"probably are (at least {of.min_posterior:g}), {of.n_unsure:,} not sure enough, "
            f"{of.n_known:,} there under a given label"
        )
    return [*lines, index.explanation]


def cost_table(rows: "list[Cost]") -> Table:
    table = Table()
    for name in ("encoder", "pixels", "numbers", "bytes (float16)", "GFLOPs", "less than LPIPS"):
        table.add_column(name, justify="left" if name == "encoder" else "right")
    for row in rows:
        table.add_row(
            row.model,
            str(row.input_size),
            f"{row.numbers:,}",
            f"{row.bytes:,}",
            f"{row.flops / 1e9:.2f}",
            f"{100 * row.less_than_lpips:.2f} %",
        )
    return table


def _indexes(config: "EmbedConfig") -> "tuple[Store, list[IndexInfo]]":
    from dcd.encoders.encoder import load_pool_encoder
    from dcd.index.info import indexes
    from dcd.sources.source import source_of
    from dcd.store import Store

    store, pool = Store(config.store), source_of(config.pool).id
    encoder_id = load_pool_encoder(config.encoder, config.store, pool).encoder_id
    found = indexes(store, pool, encoder_id)
    if not found:
        raise DataError(
            f"pool {pool}: no index by {encoder_id} in {store.url}; build one with dcd index build"
        )
    return store, found
