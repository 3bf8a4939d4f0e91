"""`dcd export`: the champion for a runtime, the picks for `datasets`, a run for MLflow."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcd.progress import live
from flows.cli.console import FoundPath, StoreUrl, explained, no_file
from flows.cli.show.as_json import write_json

app = typer.Typer(no_args_is_help=True, name="export", help="Models and picks for other tools.")


@app.command()
def champion(
    to: Annotated[
        Literal["onnx", "openvino", "torchscript"],
        typer.Option(help="The runtime; onnx needs the extra of that name."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder; default: exported/FORMAT.", callback=no_file)
    ] = None,
    store: StoreUrl = "store",
    images: Annotated[
        str | None, typer.Option(help="What to compare answers on; default: the run's test images.")
    ] = None,
    n_images: Annotated[int, typer.Option(min=1, help="At most so many of them.")] = 1000,
    int8: Annotated[
        bool, typer.Option("--int8", help="Of openvino: whole numbers; needs the extra int8.")
    ] = False,
    json_file: FoundPath = None,
) -> None:
    """Write the champion for a serving runtime, checked by its answers on real images."""
    from dcd.config import DataConfig
    from dcd.export.champion import open_champion
    from dcd.export.serving import NOTE, export_champion
    from dcd.store.store_format import open_store

    with explained():
        with live.stage("open the champion"):
            trusted = open_champion(open_store(store))
        folder = output or Path("exported") / (f"{to}-int8" if int8 else to)
        data = trusted.test_images if images is None else DataConfig(images=images)
        found = export_champion(trusted, to, folder, data, n_images, int8)
        whose = {"run_id": trusted.champion.run_id, "seed": trusted.champion.seed}
        write_json(json_file, {**whose, "folder": str(folder), **asdict(found)})
    typer.echo(f"Champion: {trusted.champion.run_id} (seed {trusted.champion.seed})")
    typer.echo(
        f"Top-1 equal to torch's on {found.n_equal} of {found.n_images} images, logits to within "
        f"{found.largest_difference:.1g}"
    )
    typer.echo(f"Model: {folder}; what a server does before it: {folder / NOTE}")


@app.command()
def picks(
    run: Annotated[
        str | None, typer.Argument(help="Id of a finished run; default: the newest.", metavar="RUN")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the data set.", callback=no_file)] = Path(
        "picks"
    ),
    store: StoreUrl = "store",
    json_file: FoundPath = None,
) -> None:
    """Write a run's picks, with their images, as a folder of Parquet that `datasets` loads."""
    from dcd.export.picks import write_picks
    from dcd.store.store_format import open_store

    with explained():
        written = write_picks(open_store(store), run, output)
        write_json(json_file, {**asdict(written), "folder": str(output)})
    typer.echo(f"{written.run_id}: {written.n_images:,} images of {len(written.labels)} labels")
    typer.echo(f'Data set: {output}; load it with datasets.load_dataset("{output}")')


@app.command()
def mlflow(
    run: Annotated[
        str | None, typer.Argument(help="Id of a finished run; default: the newest.", metavar="RUN")
    ] = None,
    store: StoreUrl = "store",
) -> None:
    """Show a run in MLflow, on the server that MLFLOW_TRACKING_URI names; again: updates it."""
    from dcd.export.mlflow_runs import send_run
    from dcd.runs.finished import run_or_newest
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        run_id = run_or_newest(opened, run)
        with live.stage("send to MLflow"):
            sent = send_run(opened, run_id)
    typer.echo(f"{run_id}: {sent}")
