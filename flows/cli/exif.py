"""The command `dcd exif`: when, with what and where images were taken, as a table for `where`."""

from pathlib import Path
from typing import Annotated

import typer

from dcd.config import SPLITS, load_config
from dcd.errors import ConfigError
from flows.cli.console import ConfigPath, explained


def exif(
    config: ConfigPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    of: Annotated[
        str, typer.Option("--of", help="The data set: pool, train, error_sample, …")
    ] = "error_sample",
    seed: Annotated[int | None, typer.Option(help="For {seed}; default: the first.")] = None,
) -> None:
    """Write the EXIF of a data set's images as a table that `labels` and `where` can use.

    Columns: image_id, label, captured, camera, latitude, longitude.
    """
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
