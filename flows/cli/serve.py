"""`dcd serve`: look at a store in a browser, and decide about its images."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import StoreUrl, explained


def serve(
    store: StoreUrl = "store",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 4280,
    review: Annotated[
        bool, typer.Option("--review", help="Let who has the printed address decide about images.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="Where a selection's images are; default: the config of the last run."),
    ] = None,
) -> None:
    """Browse runs, reports, champions and failures of a store; with --review, accept or reject."""
    import uvicorn

    from dcd.config import load_config
    from dcd.serve.app import LOOPBACK, create_app
    from dcd.serve.review_pages import ReviewAccess
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        opened.keys_under("runs/.none")  # a store that cannot be reached is told now
        given = None if config is None else load_config(config)
        access = ReviewAccess(secrets.token_urlsafe(24), given) if review else None
        app = create_app(opened, LOOPBACK if host in LOOPBACK else ("*",), access)
    typer.echo(f"{store}: http://{host}:{port}/ (stop with Ctrl-C)")
    if access is not None:
        typer.echo(f"To review: http://{host}:{port}/review/enter?token={access.token}")
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
