"""The commands that choose images or look at them: `dcd select`, `dcd neighbors`, `dcd exif`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcd.errors import ConfigError, DataError
from flows.cli.console import (
    ConfigPath,
    FoundPath,
    JsonPath,
    Verbose,
    check,
    explained,
    in_a_folder,
    plain_console,
    prefect_server,
)
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:  # they import torch, which --help does not need
    from flows.select_images import MethodSelection


def select(config: ConfigPath, json_file: JsonPath = None, verbose: Verbose = False) -> None:
    """Choose images for the failures and write the tables of picks; nothing is trained."""
    from dcd.config import load_config

    with explained(verbose=verbose):
        loaded = load_config(config)
        with prefect_server(verbose) as ready:
            check(loaded)
            from dcd.store import Store, keys
            from flows.select_images import select_images

            ready()
            selected = select_images(loaded)
        store = Store(loaded.store)
        tables = [store.uri(keys.selection_picks(one.info.id)) for one in selected]
    console = plain_console()
    console.print(_summary(selected))
    if loaded.goal is not None:
        console.print("The config has a goal: selected is what its first round picks.")
    for one, table in zip(selected, tables, strict=True):
        console.print(f"{one.method} seed {one.seed}: {table}", soft_wrap=True)
    gaps = next((one.gaps for one in selected if one.gaps is not None), None)
    for sentence in () if gaps is None else gaps.sentences:
        console.print(sentence, soft_wrap=True)
    rows = [
        {
            "method": one.method,
            "seed": one.seed,
            **asdict(one.info),
            "debug_train": table,
            "pool_lacks": None if one.gaps is None else asdict(one.gaps),
        }
        for one, table in zip(selected, tables, strict=True)
    ]
    write_json(json_file, rows)


def neighbors(
    config: ConfigPath,
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE...")],
    label: Annotated[
        list[str] | None, typer.Option(help="Only pool images of this label; may be repeated.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Pool images for each picture.")] = 20,
    html: Annotated[
        Path, typer.Option(help="Where the contact sheet goes.", callback=in_a_folder)
    ] = Path("neighbors.html"),
    json_file: FoundPath = None,
    verbose: Verbose = False,
) -> None:
    """Show what the pool has for some pictures: a table and an HTML contact sheet."""
    from dcd.config import load_config

    with explained(verbose=verbose):
        loaded = load_config(config)
        pictures = {str(path): _read(path) for path in images}
        with prefect_server(verbose) as ready:
            from flows.find_neighbors import find_neighbors

            ready()
            found = find_neighbors(loaded, pictures, tuple(label or ()), k)
    rows = found.neighbors.to_pylist()
    table = Table("picture", "rank", "label", "distance", "agreement", "pool image")
    for row in rows:
        distance, agreement = f"{row['distance']:.2f}", f"{row['label_agreement']:.2f}"
        picture, rank = row["error_image_id"], str(row["rank"])
        table.add_row(picture, rank, row["label"], distance, agreement, row["image_id"])
    console = plain_console()
    console.print(table)
    html.write_text(found.page, encoding="utf-8")
    console.print(f"Contact sheet: {html}", soft_wrap=True)
    write_json(json_file, rows)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror}); give an image file") from err


def _summary(selected: "list[MethodSelection]") -> Table:
    table = Table("selection", "seed", "failures", "targeted", "general", "filled", "reused")
    for one in selected:
        info = one.info
        table.add_row(
            one.method,
            str(one.seed),
            f"{info.n_failures:,}",
            f"{info.n_picks - info.n_general:,}",
            f"{info.n_general:,}",
            f"{info.fill_rate:.0%}",
            "yes" if info.reused else "no",
        )
    return table


def exif(
    config: ConfigPath,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The Parquet file to write.", callback=in_a_folder),
    ],
    of: Annotated[
        str, typer.Option("--of", help="The data set: pool, train, error_sample, …")
    ] = "error_sample",
    seed: Annotated[int | None, typer.Option(help="For {seed}; default: the first.")] = None,
) -> None:
    """Write the EXIF of a data set's images as a table that `labels` and `where` can use.

    Columns: image_id, label, captured, camera, latitude, longitude.
    """
    from dcd.config import SPLITS, load_config

    with explained():
        loaded = load_config(config)
        if of not in ("pool", *SPLITS):
            raise ConfigError([f"--of: {of!r} is none of pool, {', '.join(SPLITS)}"])
        at = loaded.seeds[0] if seed is None else seed
        data = loaded.pool
        for split in SPLITS:
            data = loaded.dataset(split, at) if split == of else data
        if data is None:
            raise ConfigError([f"--of: the config has no {of}"])
        import pyarrow as pa
        import pyarrow.parquet as pq

        from dcd.splits.capture_table import capture_table

        found = capture_table(data, of)
        written = pa.BufferOutputStream()
        pq.write_table(found.rows, written)
        output.write_bytes(written.getvalue())
    typer.echo(f"{output}: {found.words()}")
