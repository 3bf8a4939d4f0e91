"""`dcd serve`: look at a store in a browser."""

from typing import Annotated

import typer

from flows.cli.console import StoreUrl, explained


def serve(
    store: StoreUrl = "store",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 4280,
) -> None:
    """Browse runs, reports, champions and failures of a store; read-only, without log-in."""
    import uvicorn

    from dcd.serve.app import LOOPBACK, create_app
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        opened.keys_under("runs/.none")  # a store that cannot be reached is told now
        app = create_app(opened, LOOPBACK if host in LOOPBACK else ("*",))
    typer.echo(f"{store}: http://{host}:{port}/ (stop with Ctrl-C)")
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
