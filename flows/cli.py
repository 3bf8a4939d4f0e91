"""The command line `dcd`."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dcd.config import RunConfig, load_config
from dcd.errors import ConfigError, DCDError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Repair a failing image classifier with the right images from a noisy pool.",
)

ConfigPath = Annotated[Path, typer.Argument(help="The run's YAML config.", metavar="CONFIG.yaml")]
JsonPath = Annotated[
    Path | None, typer.Option("--json", help="Write the run's metrics to this file.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")]

_EXIT_FAILED, _EXIT_BAD_CONFIG = 1, 2


@app.command()
def run(config: ConfigPath, json_file: JsonPath = None, verbose: Verbose = False) -> None:
    """Run the whole loop: embed, select, train, evaluate, report."""
    with _explained():
        loaded = load_config(config)
        _check(loaded)
        _run(loaded, json_file, verbose)


@app.command()
def validate(config: ConfigPath) -> None:
    """Check a config and the data it names, without any work."""
    with _explained():
        _check(load_config(config))
    typer.echo(f"{config}: no problem found")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where data, store and report go.")] = Path("demo"),
    json_file: JsonPath = None,
    verbose: Verbose = False,
) -> None:
    """Make the demonstration case (handwritten digits, a noisy pool) and run the loop on it."""
    from dcd.demo import write_demo

    with _explained():
        typer.echo(f"Writing the case to {folder}/ …", err=True)
        config = write_demo(folder)
        _run(load_config(config), json_file, verbose)
    typer.echo(f"Config: {config}")


def _check(config: RunConfig) -> None:
    from dcd.validate import validate as find_problems

    problems = find_problems(config)
    if problems:
        raise ConfigError([f"{problem.place}: {problem.message}" for problem in problems])


def _run(config: RunConfig, json_file: Path | None, verbose: bool) -> None:
    configure_prefect(verbose)
    from dcd.runs import read_metrics
    from flows.debug_model import debug_model
    from flows.terminal import Bars, summary_table
    from tasks import progress

    errors = Console(stderr=True)
    live = errors.is_terminal and not verbose
    with Bars(errors) if live else nullcontext() as bars:
        if bars is not None:
            progress.listen(bars)
        info = debug_model(config)
    console = Console()
    for sentence in info.verdict:
        console.print(sentence)
    console.print(summary_table(info.rows))
    console.print(f"Report: {info.report}", soft_wrap=True)
    if json_file is not None:
        metrics = read_metrics(config.store, info.run_id)
        json_file.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def configure_prefect(verbose: bool) -> None:
    """Prefect's settings for a run without a server; what the user has set stays."""
    settings = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "dcd",
        # The first start migrates a database, which takes longer than the default on slow disks.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an expected error into its message and an exit code; anything else keeps its trace."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            typer.secho(problem, err=True, fg="red")
        raise typer.Exit(_EXIT_BAD_CONFIG) from None
    except DCDError as error:
        typer.secho(f"{type(error).__name__}: {error}", err=True, fg="red")
        raise typer.Exit(_EXIT_FAILED) from None
