"""`dcd deploy`, `dcd up`, `dcd down`: a config becomes runs that start by themselves."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import ConfigPath, configure_prefect, explained

PrefectFile = Annotated[
    Path | None,
    typer.Option(envvar="PREFECT_FILE", help="Deployments; default: those of the package."),
]
Home = Annotated[
    Path, typer.Option(envvar="DCD_HOME", help="For pid files, logs and Prefect's own folder.")
]
_HOME = Path(".dcd")


def deploy(config: ConfigPath, prefect_file: PrefectFile = None) -> None:
    """Deploy the flows for a config to the Prefect server that PREFECT_API_URL names."""
    configure_prefect(verbose=False)
    from dcd.config import load_config
    from flows.deployment import deploy as deploying
    from flows.deployment.sweep import sweep

    with explained():
        loaded = load_config(config)
        deploying.deploy(loaded, prefect_file or deploying.PREFECT_FILE)
        found = sweep()
    typer.echo(f"{config}: deployed")
    for line in found:
        typer.echo(line)


def up(
    config: ConfigPath,
    home: Home = _HOME,
    port: Annotated[
        int, typer.Option(envvar="PORT", min=1, max=65535, help="Of the server, on 127.0.0.1 only.")
    ] = 4200,
    database: Annotated[
        str | None,
        typer.Option(envvar="DATABASE_URL", help="postgresql+asyncpg://…; default: SQLite."),
    ] = None,
    prefect_file: PrefectFile = None,
    watch_every: Annotated[
        int,
        typer.Option(
            envvar="DCD_WATCH_EVERY", min=0, help="Seconds between looks into the inbox; 0: none."
        ),
    ] = 2,
) -> None:
    """Start a Prefect server, a worker and a watcher of the inbox; deploy the flows for a config.

    Call it again after a crash or a change of the config: nothing is started twice.
    """
    from dcd.config import load_config
    from flows.deployment.stack import Place, Watch, bring_up

    place = Place(home.absolute(), port, database or None)
    with explained():
        loaded = load_config(config)
        bring_up(place, loaded, Watch(config, watch_every), prefect_file, typer.echo)
    typer.echo(f"{config}: deployed")
    typer.echo(f"Prefect UI: {place.url}   Logs: {home}   Stop: dcd down")
    typer.echo(f"For the prefect command:  export PREFECT_API_URL={place.url}/api")


def down(home: Home = _HOME) -> None:
    """Stop what `dcd up` started: the watcher, the worker and its runs, and the server."""
    from flows.deployment.stack import bring_down

    with explained():
        bring_down(home.absolute(), typer.echo)
