"""The command `dcd compare`: a grid of encoders, strategies and k, with statistics."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import FoundPath, Verbose, explained, prefect_server, refuse
from flows.cli.show.as_json import write_json

ComparisonPath = Annotated[
    Path, typer.Argument(help="The comparison's YAML config.", metavar="CONFIG.yaml")
]


def compare(config: ComparisonPath, json_file: FoundPath = None, verbose: Verbose = False) -> None:
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
        write_json(json_file, {"comparison_id": info.comparison_id, "folder": info.folder})
    typer.echo(info.table)
    typer.echo(f"Tables and figures: {info.folder}")
