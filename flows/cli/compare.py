"""The command `dcd compare`: a grid of encoders, strategies and k, with statistics."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import Verbose, explained, prefect_server, refuse

ComparisonPath = Annotated[
    Path, typer.Argument(help="The comparison's YAML config.", metavar="CONFIG.yaml")
]


def compare(config: ComparisonPath, verbose: Verbose = False) -> None:
    """Compare encoders, strategies and k: every cell is trained once, and kept."""
    from dcd.config import load_comparison

    with explained(verbose=verbose):
        loaded = load_comparison(config)
        with prefect_server(verbose) as ready:
            from dcd.validation.lpips import (
                lpips_problems,  # imports torch, which --help does not need
            )

            refuse(lpips_problems(loaded.base, loaded.selections()))
            from flows.compare import compare as run_compare

            ready()
            info = run_compare(loaded)
    typer.echo(info.table)
    typer.echo(f"Tables and figures: {info.folder}")
