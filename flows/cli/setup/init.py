"""`dcd init`: look at folders and write a first config."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.errors import ConfigError
from flows.cli.console import check, explained, in_a_folder

if TYPE_CHECKING:
    from dcd.setup.first_config import FirstConfig

_IMAGES = "Class folders, tars, Parquet or a manifest; default: a folder of a usual name."


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where the images are.", exists=True, file_okay=False)
    ] = Path("."),
    pool: Annotated[str | None, typer.Option(help=_IMAGES)] = None,
    train: Annotated[str | None, typer.Option(help=_IMAGES)] = None,
    test: Annotated[str | None, typer.Option(help=_IMAGES)] = None,
    failures: Annotated[
        str | None, typer.Option(help="As the others, or the output folder of `dcd errors`.")
    ] = None,
    store: Annotated[str, typer.Option(help="A folder or s3://bucket/prefix.")] = "store",
    output: Annotated[Path, typer.Option(help="The config to write.", callback=in_a_folder)] = Path(
        "config.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace a config.")] = False,
) -> None:
    """Write a config for the images in a folder, and check it; asks for what it does not find."""
    with explained():
        from dcd.config import load_config
        from dcd.setup.first_config import write_first_config
        from dcd.setup.places import WHAT, Places, find

        if output.exists() and not force:
            raise ConfigError([f"{output}: is there already; give --output, or --force"])
        given = {"pool": pool, "train": train, "test": test, "failures": failures}
        known: dict[str, str | None] = {}
        for part, what in WHAT.items():
            known[part] = given[part] or _ask(part, what, find(part, folder))
        places = Places(**known)
        if missing := places.missing():
            raise ConfigError(missing)
        written = write_first_config(places, _name(folder), store, output)
        _tell(written)
        check(load_config(output))
    typer.echo(f"No problem found. Next: dcd run {output}")


def _ask(part: str, what: str, found: str | None) -> str | None:
    """Return what was found; on a terminal let the person have the last word."""
    if sys.stdin.isatty():
        typer.echo(f"{part}: {what}", err=True)
        return typer.prompt(f"  --{part}", default=found or "", err=True).strip() or None
    if found is not None:
        typer.echo(f"{part}: {found}", err=True)
    return found


def _name(folder: Path) -> str:
    """The folder's name, as far as a run's id may have it."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.absolute().name)
    return plain.strip("-")[:40] or "run"


def _tell(written: "FirstConfig") -> None:
    typer.echo(f"Config: {written.config}")
    if written.cut is None:
        return
    counts = ", ".join(f"{n} {role}" for role, n in written.cut.counts().items())
    typer.echo(f"Failures: {counts}; who has which role: {written.roles}")
    if written.cut.n_unlabelled:
        typer.echo(f"  left out, for want of a label: {written.cut.n_unlabelled}")
    for label, n in written.cut.few.items():
        typer.echo(f"  {label}: {n} different images, so not in every role")
