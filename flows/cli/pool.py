"""The commands about a pool: `dcd embed`, `dcd pool status`, `dcd pool verify`."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.errors import ConfigError, DCDError
from flows.cli.console import (
    EXIT_FAILED,
    ConfigPath,
    FoundPath,
    JsonPath,
    Verbose,
    complain,
    explained,
    prefect_server,
)
from flows.cli.show.as_json import write_json

if TYPE_CHECKING:  # they import torch, which --help does not need
    from dcd.config import EmbedConfig
    from dcd.embeddings.status import PoolStatus
    from dcd.store import Store


pool_app = typer.Typer(
    no_args_is_help=True, help="What of a pool is embedded, and whether it is whole."
)


def embed(config: ConfigPath, json_file: JsonPath = None, verbose: Verbose = False) -> None:
    """Embed the pool of a config; finished shards are reused, failed ones are tried again.

    CONFIG.yaml is the config of a run, or one with store, pool, encoder and runner alone.
    """
    from dcd.config import load_embed_config

    with explained(verbose=verbose):
        loaded = load_embed_config(config)
        _check_access(loaded)
        with prefect_server(verbose) as ready:
            from flows.embed_pool import embed_pool, summary

            ready()
            embedded = embed_pool(loaded)
        from dcd.sources.source import passed_over_in
        from dcd.store import Store

        passed_over = passed_over_in(Store(loaded.store), embedded.source)
    typer.echo(f"{embedded.source.id}: {summary(embedded)}")
    for told in (passed_over, embedded.cleaned):
        if told:
            typer.echo(told)
    counts = {
        "pool": embedded.source.id,
        "encoder_id": embedded.encoder_id,
        "n_shards": len(embedded.shards),
        "n_reused_shards": embedded.n_reused_shards,
        "n_images": embedded.n_images,
        "n_embedded": embedded.n_embedded,
        "n_rejected": embedded.n_rejected,
        "seconds": embedded.seconds,
    }
    write_json(json_file, counts)


@pool_app.command()
def status(config: ConfigPath, json_file: JsonPath = None) -> None:
    """Show which shards are done, failed or missing, the rejects, the speed and the time left."""
    from dcd.config import load_embed_config

    with explained():
        store, source_id, encoder_id = _addressed(load_embed_config(config))
        from dcd.embeddings.status import noted_failures, pool_status

        found = pool_status(store, source_id, encoder_id)
        failures = noted_failures(store, source_id, encoder_id) if found.n_failed else []
    typer.echo("\n".join([f"{source_id} by {encoder_id}", *status_lines(found)]))
    for failure in failures:
        typer.echo(f"  {failure.shard}: {failure.reason}")
    write_json(json_file, asdict(found))


@pool_app.command()
def verify(
    config: ConfigPath,
    sources: Annotated[
        bool, typer.Option("--sources", help="Read the image archives too, and count their images.")
    ] = False,
    json_file: FoundPath = None,
) -> None:
    """Read every published shard again and count it; exit code 1 if one is not whole."""
    from dcd.config import load_embed_config

    with explained():
        loaded = load_embed_config(config)
        store, source_id, encoder_id = _addressed(loaded)
        from dcd.embeddings.status import verify as find_faults
        from dcd.sources.source import source_of

        found = find_faults(
            store, source_id, encoder_id, source_of(loaded.pool).data if sources else None
        )
    write_json(json_file, asdict(found))
    for fault in found.faults:
        complain(f"{fault.shard}: {fault.message}")
    typer.echo(
        f"{source_id} by {encoder_id}: {found.n_checked:,} of {found.n_shards:,} shards checked, "
        f"{found.n_images:,} images; {len(found.faults):,} faults"
    )
    if found.faults:
        raise typer.Exit(EXIT_FAILED)


def status_lines(found: "PoolStatus") -> list[str]:
    """Tell the counts in lines for people."""
    lines = [
        f"shards: {found.n_done:,} of {found.n_shards:,} done, {found.n_failed:,} failed, "
        f"{found.n_missing:,} missing",
        f"images: {found.n_embedded:,} embedded, {found.n_rejected:,} rejected",
    ]
    if found.images_per_s is not None:
        lines.append(f"speed: {found.images_per_s:,.1f} images/s")
    if found.seconds_left:
        lines.append(f"time left: {timedelta(seconds=round(found.seconds_left))}")
    return lines


def _check_access(config: "EmbedConfig") -> None:
    """Raises ConfigError, before any work, if the store cannot be used."""
    from dcd.sources.source import check_name
    from dcd.store.store_format import open_for_writing

    place = "store"
    try:
        store = open_for_writing(config.store)
        store.probe()
        place = "pool.name"
        check_name(store, config.pool)
    except DCDError as err:
        raise ConfigError([f"{place}: {err}"]) from err


def _addressed(config: "EmbedConfig") -> "tuple[Store, str, str]":
    """The store, and the names of the pool and of the encoder in it."""
    from dcd.encoders.encoder import load_pool_encoder
    from dcd.sources.source import source_of
    from dcd.store.store_format import open_store

    pool = source_of(config.pool).id
    encoder_id = load_pool_encoder(config.encoder, config.store, pool).encoder_id
    return open_store(config.store), pool, encoder_id
