"""`dcd serve` and `dcd review`: look at a store, decide about its images here or elsewhere."""

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import typer

from flows.cli.console import (
    ConfigPath,
    FoundPath,
    StoreUrl,
    Verbose,
    check,
    explained,
    prefect_server,
)
from flows.cli.show.as_json import write_json

if TYPE_CHECKING:
    from dcd.reviews.hand_off import Tool
    from dcd.serve.review_desk import Desk
    from dcd.store import Store

Choice = TypeVar("Choice", bound=str)
review_app = typer.Typer(
    no_args_is_help=True, help="Picks and failures for annotators in other tools, and back."
)
Name = Annotated[str, typer.Argument(help="A run, a selection (their ids), or: failures.")]
ToolName = Annotated[str, typer.Option(help="label-studio, cvat, fiftyone or csv.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Where a selection's images are.")
]
_SHOWN = 20  # of what is refused
_FRESH_S = 1.0  # a list that somebody else saw so long ago is shown again


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
        hosts = LOOPBACK if host in LOOPBACK else ("*",)
        app = create_app(opened, hosts, access, _FRESH_S)
    typer.echo(f"{store}: http://{host}:{port}/ (stop with Ctrl-C)")
    if access is not None:
        typer.echo(f"To review: http://{host}:{port}/review/enter?token={access.token}")
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


@review_app.command("plan")
def plan(
    config: ConfigPath,
    n: Annotated[int, typer.Option("--n", min=1, help="Images that people will look at.")] = 100,
    json_file: FoundPath = None,
    verbose: Verbose = False,
) -> None:
    """Choose the pool images whose verification is expected to gain most, to be reviewed."""
    from dcd.config import load_config

    with explained(verbose=verbose):
        loaded = load_config(config)
        with prefect_server(verbose) as ready:
            check(loaded)
            from flows.plan_review import plan_review

            ready()
            found = plan_review(loaded, n)
        write_json(json_file, asdict(found))
    typer.echo(
        f"{found.n_images} of {found.n_candidates:,} pool images, {found.n_picks} of them picks; "
        f"{found.n_decided} decided before are left out"
    )
    typer.echo(f"dcd serve --review --store {loaded.store} --config {config}")
    typer.echo(f"and open /review/selections/{found.id}; or")
    typer.echo(f"dcd review export {found.id} FOLDER --store {loaded.store} --config {config}")


@review_app.command("export")
def export_(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="A new folder for pictures and the tool's files.")],
    to: ToolName = "label-studio",
    store: StoreUrl = "store",
    url_prefix: Annotated[
        str | None,
        typer.Option(help="Where the tool finds the pictures; embed: inside Label Studio's tasks."),
    ] = None,
    only: Annotated[str, typer.Option(help="all, undecided or skipped.")] = "all",
    config: ConfigOption = None,
    json_file: FoundPath = None,
) -> None:
    """Write images with their labels as pre-annotations, for annotators in another tool."""
    with explained():
        from dcd.serve.review_hand_off import Only, hand_off

        desk, opened = _desk(store, name, config)
        tool, which = _tool(to), _one_of("--only", only, get_args(Only))
        found = hand_off(opened, desk, tool, folder, url_prefix, which)
        write_json(json_file, asdict(found))
    typer.echo(f"{found.n_images} images; {folder}/: {', '.join(found.files)}")
    if found.gone:
        typer.echo(f"{len(found.gone)} left out, their pictures are gone: {_some(found.gone)}")


@review_app.command("import")
def import_(
    name: Name,
    file: Annotated[Path, typer.Argument(help="What the tool exported.", exists=True)],
    from_: Annotated[str, typer.Option("--from", help="As --to of the export.")] = "label-studio",
    store: StoreUrl = "store",
    config: ConfigOption = None,
    json_file: FoundPath = None,
) -> None:
    """Take what annotators decided; unknown images and labels are listed, the rest is taken."""
    with explained():
        from dcd.serve.review_hand_off import take_back

        desk, opened = _desk(store, name, config)
        found = take_back(opened, desk, _tool(from_), file.read_bytes(), str(file))
        write_json(json_file, asdict(found))
    typer.echo(f"{found.n_new} decisions taken, {found.n_known} known before")
    if found.refused:
        typer.echo(f"{len(found.refused)} not taken:")
        for why in found.refused[:_SHOWN]:
            typer.echo(f"  {why}")
        if len(found.refused) > _SHOWN:
            typer.echo(f"  and {len(found.refused) - _SHOWN} more")


def _desk(store: str, name: str, config: Path | None) -> "tuple[Desk, Store]":
    from dcd.config import load_config
    from dcd.serve.review_desk import desk_named
    from dcd.store.store_format import open_store

    opened = open_store(store)
    given = None if config is None else load_config(config)
    return desk_named(opened, name, given), opened


def _tool(name: str) -> "Tool":
    from dcd.serve.review_hand_off import TOOLS

    return _one_of("the tool", name, tuple(TOOLS))


def _one_of(what: str, given: str, choices: Sequence[Choice]) -> Choice:
    from dcd.errors import DataError

    for choice in choices:
        if choice == given:
            return choice
    raise DataError(f"{what}: {given!r:.60} is none of {', '.join(choices)}")


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
