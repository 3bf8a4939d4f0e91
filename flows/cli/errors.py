"""`dcd errors`: from a model and a data set to an error sample and debug splits."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.progress import live
from flows.cli.console import FoundPath, StoreUrl, explained, no_file, plain_console
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:
    from dcd.failures.answers import Answers
    from dcd.failures.collect import ErrorCollection
    from dcd.training.saved_models import SavedModel


app = typer.Typer()


@app.command()
def errors(
    model: Annotated[
        str, typer.Argument(help="A saved model's folder, a run id, champion, or a checkpoint.")
    ],
    dataset: Annotated[
        str, typer.Argument(help="Labelled images: a folder of class folders, tars, Parquet.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the result.", callback=no_file)] = Path(
        "errors"
    ),
    labels: Annotated[str | None, typer.Option(help="Table image_id, label.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Label column.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL: the rows of the labels table.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Checkpoint: its timm model name.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Checkpoint: its class names, JSON or one a line.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Run: whose model.")] = None,
    debug_val: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the images for debug_val.")
    ] = 0.3,
    debug_heldout: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the images for debug_heldout.")
    ] = 0.3,
    store: StoreUrl = "store",
    json_file: FoundPath = None,
) -> None:
    """Collect a model's failures as an error sample, with debug splits and a contact sheet."""
    from dcd.config import DataConfig
    from dcd.errors import ConfigError
    from dcd.failures.answers import answer, open_model
    from dcd.failures.collect import PAGE, collect_errors, read_images, write_collection
    from dcd.failures.contact_sheet import render_sheet

    shares = (1 - debug_val - debug_heldout, debug_val, debug_heldout)
    with explained():
        if shares[0] < 0.01:
            raise ConfigError(
                ["--debug-val and --debug-heldout: they leave no images for the error sample"]
            )
        opened = open_model(model, store, seed, architecture, classes)
        data = DataConfig(images=dataset, labels=labels, label_column=label_column, where=where)
        answers = answer(opened, data)
        with live.stage("write the errors"):
            found = collect_errors(answers, shares)
            write_collection(output, data, found)
            page = render_sheet(found, f"{model} on {dataset}", partial(read_images, output))
            (output / PAGE).write_text(page, encoding="utf-8")
        told = {
            "n_images": found.n_images,
            "accuracy": found.accuracy,
            "n_rejected": answers.n_rejected,
            "n_unlabelled": answers.n_unlabelled,
            "n_unknown": answers.n_unknown,
            "folder": str(output),
            "modes": [asdict(mode) for mode in found.modes],
        }
        write_json(json_file, told)
    _print_result(answers, found, opened, output)


def _print_result(
    answers: "Answers", found: "ErrorCollection", model: "SavedModel", output: Path
) -> None:
    from dcd.failures.collect import PAGE

    console = plain_console()
    left_out = f"{answers.n_rejected} broken, {answers.n_unlabelled} without a label"
    console.print(
        f"{found.accuracy:.1%} of {found.n_images:,} images right; left out: {left_out}, "
        f"{answers.n_unknown} with a label that the model does not know."
    )
    console.print(_table(found))
    console.print(f"Contact sheet: {output / PAGE}", soft_wrap=True)
    console.print("For your config:\n")
    typer.echo(_snippet(output, found, model))


def _table(found: "ErrorCollection") -> Table:
    table = Table(title="Failure modes", title_justify="left")
    table.add_column("label")
    table.add_column("mode")
    for heading in ("failures", "debug images near", "of those right"):
        table.add_column(heading, justify="right")
    for row in found.modes:
        right = "–" if row.accuracy_near is None else f"{row.accuracy_near:.0%}"
        table.add_row(row.label, row.mode, f"{row.n_failures:,}", f"{row.n_near:,}", right)
    return table


def _snippet(output: Path, found: "ErrorCollection", model: "SavedModel") -> str:
    """Config sections; debug splits without any image are left out."""
    from dcd.failures.collect import IMAGES, ROLES, ROWS

    present = set(found.rows["role"].to_pylist())
    sections: dict[str, object] = {
        role: {
            "images": str(output / IMAGES),
            "labels": str(output / ROWS),
            "where": f"role = '{role}'",
        }
        for role in ROLES
        if role in present
    }
    cfg = getattr(model.network, "pretrained_cfg", {})
    sections["encoder"] = {
        "model": cfg.get("architecture"),
        "input_size": model.preprocess.input_size,
        "crop_pct": model.preprocess.crop_pct,
    }
    import yaml

    return yaml.safe_dump(sections, sort_keys=False).rstrip()
