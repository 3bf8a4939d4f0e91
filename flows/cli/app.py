"""The command line `dcd`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dcd.config import RunConfig, load_config
from flows.cli import cache as cli_cache
from flows.cli import champions as cli_champions
from flows.cli import compare as cli_compare
from flows.cli import deploy as cli_deploy
from flows.cli import errors as cli_errors
from flows.cli import estimate as cli_estimate
from flows.cli import failures as cli_failures
from flows.cli import index as cli_index
from flows.cli import pool as cli_pool
from flows.cli import select as cli_select
from flows.cli import serve as cli_serve
from flows.cli import store as cli_store
from flows.cli.console import (
    ConfigPath,
    JsonPath,
    Verbose,
    check,
    explained,
    leaving,
    prefect_server,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Repair a failing image classifier with the right images from a noisy pool.",
)


def main() -> None:
    """Run the script `dcd`: the command, and out."""
    # OpenVINO takes a --verbose that it finds there for its own: it prints, and traces all memory.
    arguments, sys.argv[1:] = sys.argv[1:], []
    leaving(lambda: app(arguments, prog_name="dcd"))


app.add_typer(cli_champions.app)


app.add_typer(cli_errors.app)


app.command()(cli_pool.embed)


app.add_typer(cli_estimate.app)


app.command()(cli_compare.compare)


app.add_typer(cli_pool.pool_app, name="pool")


app.add_typer(cli_failures.app, name="failures")


app.add_typer(cli_index.app, name="index")


app.command()(cli_index.cost)


app.command()(cli_select.select)


app.command()(cli_select.neighbors)


app.command()(cli_deploy.deploy)


app.add_typer(cli_cache.app, name="cache")


app.command()(cli_serve.serve)


app.add_typer(cli_store.app, name="store")


@app.command()
def run(config: ConfigPath, json_file: JsonPath = None, verbose: Verbose = False) -> None:
    """Run the whole loop: embed, select, train, evaluate, report."""
    with explained():
        loaded = load_config(config)
        with prefect_server(verbose) as ready:
            check(loaded)
            _run(loaded, json_file, verbose, ready)


@app.command()
def validate(config: ConfigPath) -> None:
    """Check a config and the data it names, without any work."""
    with explained():
        check(load_config(config))
    typer.echo(f"{config}: no problem found")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where data, store and report go.")] = Path("demo"),
    json_file: JsonPath = None,
    verbose: Verbose = False,
) -> None:
    """Make the demonstration case (handwritten digits, a noisy pool) and run the loop on it."""
    from dcd.demo import write_demo

    with explained(), prefect_server(verbose) as ready:
        typer.echo(f"Writing the case to {folder}/ …", err=True)
        config = write_demo(folder)
        _run(load_config(config), json_file, verbose, ready)
    typer.echo(f"Config: {config}")


def _run(
    config: RunConfig, json_file: Path | None, verbose: bool, ready: Callable[[], None]
) -> None:
    from dcd.runs.run import read_metrics
    from flows.cli.terminal import live_bars, summary_table
    from flows.debug_model import debug_model

    ready()
    with live_bars(verbose):
        info = debug_model(config)
    console = Console()
    for sentence in info.verdict:
        console.print(sentence)
    console.print(summary_table(info.rows))
    for sentence in info.gate:
        console.print(sentence)
    console.print(f"Report: {info.report}", soft_wrap=True)
    if json_file is not None:
        metrics = read_metrics(config.store, info.run_id)
        json_file.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
