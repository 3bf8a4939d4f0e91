"""The command line `dcd`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.progress import live
from flows.cli import (
    cache,
    champions,
    compare,
    deploy,
    errors,
    estimate,
    failures,
    index,
    lpips,
    pool,
    select,
    serve,
    store,
)
from flows.cli.console import (
    ConfigPath,
    FoundPath,
    JsonPath,
    Verbose,
    check,
    explained,
    leaving,
    looked_through,
    plain_console,
    prefect_server,
    refuse,
)
from flows.cli.export import files, publish
from flows.cli.look import influence
from flows.cli.setup import doctor, init
from flows.cli.show.as_json import write_json

if TYPE_CHECKING:
    from dcd.config import RunConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Repair a failing image classifier with the right images from a noisy pool.",
)


def main() -> None:
    """Run the script `dcd`: the command, and out."""
    leaving(lambda: app(prog_name="dcd"))


app.add_typer(champions.app)
app.add_typer(files.app)
app.command()(publish.publish)
app.add_typer(errors.app)
app.command()(pool.embed)
app.add_typer(estimate.app)
app.command()(compare.compare)
app.add_typer(pool.pool_app, name="pool")
app.add_typer(failures.app, name="failures")
app.add_typer(index.app, name="index")
app.command()(index.cost)
app.add_typer(lpips.app)
app.command()(select.select)
app.command()(select.neighbors)
app.command()(select.exif)
app.command()(influence.influence)
app.command()(init.init)
app.command()(doctor.doctor)
app.command()(deploy.up)
app.command()(deploy.down)
app.command()(deploy.deploy)
app.add_typer(cache.app, name="cache")
app.command()(serve.serve)
app.add_typer(serve.review_app, name="review")
app.command()(store.forget)
app.add_typer(store.app, name="store")


@app.command()
def run(config: ConfigPath, json_file: JsonPath = None, verbose: Verbose = False) -> None:
    """Run the whole loop: embed, select, train, evaluate, report."""
    from dcd.config import load_config

    with explained(verbose=verbose):
        loaded = load_config(config)
        with prefect_server(verbose) as ready:
            check(loaded)
            _run(loaded, json_file, verbose, ready)


@app.command()
def validate(config: ConfigPath, json_file: FoundPath = None) -> None:
    """Check a config and the data it names, without any work."""
    from dcd.config import load_config

    with explained():
        found = looked_through(load_config(config))
        write_json(json_file, asdict(found))
        refuse(found.problems)
    typer.echo(f"{config}: no problem found")


@app.command()
def demo(
    case: Annotated[
        str, typer.Option(help="digits, handwritten, or clothes, pictures of a shop.")
    ] = "digits",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where data, store and report go; demo or demo-CASE if not given."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Where the clothes lie, if not where Debian's package puts them."),
    ] = None,
    json_file: JsonPath = None,
    verbose: Verbose = False,
) -> None:
    """Make a demonstration case (real images, a noisy pool) and run the loop on it."""
    from dcd.config import load_config
    from dcd.demo.case import write_demo

    to = folder or Path("demo" if case == "digits" else f"demo-{case}")
    with explained(verbose=verbose), prefect_server(verbose) as ready:
        typer.echo(f"Writing the case to {to}/ …", err=True)
        with live.stage("write the case"):
            config = write_demo(to, case, images)
        _run(load_config(config), json_file, verbose, ready)
    typer.echo(f"Config: {config}")


def _run(
    config: "RunConfig", json_file: Path | None, verbose: bool, ready: Callable[[], None]
) -> None:
    from dcd.runs.run import import_report, read_metrics
    from flows.cli.terminal import rounds_table, summary_table
    from flows.debug_model import debug_model

    import_report()  # needed at the end in any case; Prefect's server comes up meanwhile
    ready()
    info = debug_model(config)
    console = plain_console()
    for sentence in info.verdict:
        console.print(sentence)
    console.print(summary_table(info.rows))
    if info.rounds is not None:
        console.print(rounds_table(info.rounds))
        for sentence in info.rounds.sentences:
            console.print(sentence)
    for sentence in info.gate:
        console.print(sentence)
    if info.mended:
        console.print(f"{len(info.mended)} damaged or missing objects were made again:")
        for why in info.mended:
            console.print(f"  {why}", soft_wrap=True)
    console.print(f"Report: {info.report}", soft_wrap=True)
    if info.tracked:
        console.print(info.tracked, soft_wrap=True)
    if json_file is not None:
        found: object = read_metrics(config.store, info.run_id)
        if info.rounds is not None:
            found = {"metrics": found, "rounds": asdict(info.rounds)}
        write_json(json_file, found)
