"""`dcd cache`: what was reused, and why something was not."""

from typing import Annotated

import typer

from dcd.errors import DCDError
from flows.cli.console import configure_prefect, explained

app = typer.Typer(no_args_is_help=True, help="Kept results of tasks: what was reused, and why not.")


@app.callback()
def cache() -> None:
    """Kept results of tasks."""


@app.command()
def explain(
    run: Annotated[str, typer.Argument(help="Id or name of the flow run in Prefect.")],
    task: Annotated[str, typer.Argument(help="Name of the task run, or the beginning of it.")],
    store: Annotated[
        str | None, typer.Option(help="Default: the store in the run's parameters.")
    ] = None,
) -> None:
    """Say why the tasks of a run were reused or not. PREFECT_API_URL names the server."""
    configure_prefect(verbose=False)
    from tasks.explain import explanations

    with explained():
        lines = explanations(run, task, store)
        if not lines:
            raise DCDError(f"{run}: no task run whose name starts with {task!r}; see the UI")
    for line in lines:
        typer.echo(line)
