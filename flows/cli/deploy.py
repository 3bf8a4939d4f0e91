"""`dcd deploy`: a config becomes scheduled and triggered runs on a Prefect server."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import ConfigPath, configure_prefect, explained


def deploy(
    config: ConfigPath,
    prefect_file: Annotated[
        Path | None, typer.Option(help="Default: deployments/prefect.yaml of the checkout.")
    ] = None,
) -> None:
    """Deploy the flows for a config to the Prefect server that PREFECT_API_URL names."""
    configure_prefect(verbose=False)
    from dcd.config import load_config
    from flows.deployment import deploy as deploying
    from flows.deployment.sweep import sweep

    with explained():
        loaded = load_config(config)
        deploying.deploy(loaded, prefect_file or deploying.DEPLOYMENTS / "prefect.yaml")
        found = sweep()
    typer.echo(f"{config}: deployed")
    for line in found:
        typer.echo(line)
