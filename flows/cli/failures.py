"""`dcd failures`: report failing images, see what became of them."""

from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dcd.errors import DataError
from flows.cli.console import (
    ConfigPath,
    FoundPath,
    Verbose,
    configure_prefect,
    explained,
    plain_console,
    prefect_server,
)
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:
    from dcd.config import RunConfig, WatchConfig

app = typer.Typer(
    no_args_is_help=True, help="Failing images: report them, see what became of them."
)
StoreUrl = Annotated[str | None, typer.Option("--store", help="A folder or s3://bucket/prefix.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The run's YAML config; default: of the last run.")
]


@app.command()
def add(
    images: Annotated[
        str, typer.Argument(help="A folder of class folders, or Parquet with image and label.")
    ],
    store: StoreUrl = None,
    config: ConfigOption = None,
    json_file: FoundPath = None,
) -> None:
    """Check failing images and register the good ones. They are copied, never moved."""
    from dcd.failures.intake import take_in_folder
    from dcd.store.store_format import open_store

    with explained():
        run = _run_config(store, config)
        intake = take_in_folder(open_store(run.store), run, images)
        write_json(json_file, asdict(intake))
    typer.echo(
        f"{intake.n_files} new files: {intake.n_new} failures registered, {intake.n_bad} refused"
    )
    if intake.passed_over:
        typer.echo(intake.passed_over)
    if intake.n_bad:
        typer.echo(f"Why they were refused: dcd failures list --store {run.store}")


@app.command()
def watch(
    config: ConfigPath,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Seconds; look again and again, and wake deployed runs."),
    ] = None,
    json_file: FoundPath = None,
    verbose: Verbose = False,
) -> None:
    """Look into the store's inbox once, as the deployment watch-failures does; or without end."""
    from dcd.config import WatchConfig, load_config

    with explained(verbose=verbose):
        loaded = load_config(config)
        if every is not None:
            if json_file is not None:
                raise DataError("--json: --every looks without end; leave one of them out")
            _watch_on(WatchConfig(run=loaded), every, verbose)
        with prefect_server(verbose) as ready:
            from flows.watch_failures import watch_failures

            ready()
            arrival = watch_failures(WatchConfig(run=loaded))
        found, waiting = arrival.intake, arrival.waiting
        write_json(json_file, {**asdict(found), "n_waiting": waiting.n_failures})
    typer.echo(
        f"{found.n_files} new files: {found.n_new} failures registered, {found.n_bad} refused; "
        f"{waiting.n_failures} failures wait for a run"
    )
    if found.passed_over:
        typer.echo(found.passed_over)


def _watch_on(config: "WatchConfig", every_s: float, verbose: bool) -> NoReturn:
    configure_prefect(verbose)
    from flows.deployment.inbox import watch_inbox  # imports Prefect, after its settings

    watch_inbox(config, every_s, partial(print, flush=True))


@app.command("list")
def list_failures(
    store: StoreUrl = None, config: ConfigOption = None, json_file: FoundPath = None
) -> None:
    """List registered failures by batch, which run covered them, and what was refused."""
    from dcd.failures.registry import first_runs, read_registry
    from dcd.store.store_format import open_store

    with explained():
        run = _run_config(store, config)
        opened = open_store(run.store)
        registry = read_registry(opened)
        covered_by = first_runs(opened, run.name)
    if not registry.failures.num_rows:
        # A store's relative path counts from the folder of the call: an empty table hides that.
        where = opened.url if "://" in opened.url else Path(opened.url).absolute()
        typer.echo(f"No failures are registered in the store {where}", err=True)
    batches: dict[str, list[dict[str, object]]] = {}
    for row in registry.failures.to_pylist():
        batches.setdefault(row["batch"], []).append(row)
    rejects = registry.rejects()
    found = {
        "batches": [
            {
                "batch": batch,
                "registered": f"{rows[0]['registered']:%Y-%m-%dT%H:%M:%S}Z",
                "labels": dict(Counter(str(row["label"]) for row in rows)),
                "first_run": covered_by.get(batch),
            }
            for batch, rows in batches.items()
        ],
        "refused": rejects.select(["image_id", "reason", "uri"]).to_pylist(),
    }
    write_json(json_file, found)
    console = plain_console()
    table = Table(title="Registered failures", title_justify="left")
    for heading in ("batch", "registered (UTC)", "images", "labels", "first run"):
        table.add_column(heading, justify="right" if heading == "images" else "left")
    for batch, rows in batches.items():
        labels = Counter(str(row["label"]) for row in rows)
        table.add_row(
            batch,
            f"{rows[0]['registered']:%Y-%m-%d %H:%M:%S}",
            str(len(rows)),
            ", ".join(f"{label} {n}" for label, n in labels.most_common(4)),
            covered_by.get(batch, "waiting"),
        )
    console.print(table)
    if rejects.num_rows:
        refused = Table(title="Refused", title_justify="left")
        for heading in ("image", "reason", "file"):
            refused.add_column(heading)
        for row in rejects.slice(0, 50).to_pylist():
            refused.add_row(row["image_id"], row["reason"], row["uri"])
        console.print(refused)
        if rejects.num_rows > 50:
            console.print(f"and {rejects.num_rows - 50} more")


def _run_config(store: str | None, config: Path | None) -> "RunConfig":
    """The config that failures are checked against: the given one, or that of the last run."""
    from dcd.config import load_config

    if config is not None:
        loaded = load_config(config)
        return loaded if store is None else loaded.model_copy(update={"store": store})
    if store is None:
        raise DataError("where to: give --config CONFIG.yaml, or the --store of an earlier run")
    from dcd.runs.finished import last_config
    from dcd.store.store_format import open_store

    return last_config(open_store(store)).model_copy(update={"store": store})
