"""`dcd publish`: the champion on the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from dcd.progress import live
from flows.cli.console import FoundPath, StoreUrl, explained, no_file
from flows.cli.show.as_json import write_json


def publish(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hub.")],
    store: StoreUrl = "store",
    output: Annotated[
        Path, typer.Option(help="Folder that is written first.", callback=no_file)
    ] = Path("hub"),
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the model, as the Hub names it: mit.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="A data set on the Hub; may be given again.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository is private.")] = False,
    no_push: Annotated[bool, typer.Option("--no-push", help="Write the folder only.")] = False,
    json_file: FoundPath = None,
) -> None:
    """Write the champion as a folder for the Hub, and push it where a token is."""
    from dcd.export.hub import HubEntry, push, write_hub_folder
    from dcd.store.store_format import open_store

    entry = HubEntry(repo, licence, tuple(dataset or ()))
    with explained():
        with live.stage("write the folder"):
            champion = write_hub_folder(open_store(store), entry, output)
        typer.echo(f"Champion: {champion.run_id} (seed {champion.seed})")
        typer.echo(f"Folder: {output}")
        if licence is None:
            typer.echo("No --license: the Hub will show none", err=True)
        whose = {"run_id": champion.run_id, "seed": champion.seed, "folder": str(output)}
        write_json(json_file, {**whose, "page": None})
        if no_push:
            return
        with live.stage("push to the Hub"):
            page = push(entry, output, private=not public)
        write_json(json_file, {**whose, "page": page})
    if page is None:
        typer.echo("Not pushed: no token; set HF_TOKEN, or call `hf auth login`, and try again")
        return
    typer.echo(f"Pushed: {page}")
