"""Write what a run picked as a folder of Parquet that the library `datasets` loads."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dcd.progress import live
from dcd.runs.finished import run_config, run_or_newest
from dcd.sources.records import RawImage
from dcd.sources.source import fetch_each, source_of
from dcd.store import Store, keys
from dcd.store.local_files import published

PART = "data/train-00000-of-00001.parquet"
_ROW_GROUP_IMAGES = 100  # the viewer of the Hub reads a row group at a time
_KEPT = ("role", "weight", "min_distance", "label_agreement")


@dataclass(frozen=True)
class WrittenPicks:
    """What `write_picks` wrote.

    Attributes:
        run_id: the run whose picks they are.
        n_images: how many were written.
        labels: their labels in the order of the codes in the column `label`.
    """

    run_id: str
    n_images: int
    labels: tuple[str, ...]


def write_picks(store: Store, run_id: str | None, folder: Path) -> WrittenPicks:
    """Write a run's picks with their images, labels and distances as a folder for `datasets`.

    The picks are those of the run's first seed.

    Args:
        store: of the run.
        run_id: the newest one where it is None.
        folder: gets one Parquet file below `data/` and, last, README.md.

    Raises:
        DataError: there is no such run, or its pool's images are not where its config says.
    """
    run_id = run_or_newest(store, run_id)
    config = run_config(store, run_id)
    picks = store.read_table(keys.run_table(run_id, "debug_train"))
    labels = tuple(sorted(set(picks["label"].to_pylist())))
    schema = _schema(labels)
    images = fetch_each(store, [source_of(config.pool)], picks.select(["image_id", "shard"]))
    (folder / "README.md").unlink(missing_ok=True)
    n_images = 0
    with (
        live.stage("write picks", picks.num_rows, "images") as stage,
        published(str(folder / PART)) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for rows in _batches(images, picks, labels, schema):
            writer.write_table(rows)
            stage.advance(rows.num_rows)
            n_images += rows.num_rows
    with published(str(folder / "README.md")) as file:
        file.write(_readme(run_id, config.pool.licence).encode())
    return WrittenPicks(run_id, n_images, labels)


def _schema(labels: tuple[str, ...]) -> pa.Schema:
    """Arrow's types, with the features of `datasets` in the place where it keeps them."""
    fields = [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("label", pa.int64()),
        pa.field("image_id", pa.string()),
        pa.field("role", pa.string()),
        *(pa.field(name, pa.float32()) for name in _KEPT[1:]),
    ]
    features: dict[str, object] = {
        "image": {"_type": "Image"},
        "label": {"names": list(labels), "_type": "ClassLabel"},
        **{name: {"dtype": "string", "_type": "Value"} for name in ("image_id", "role")},
        **{name: {"dtype": "float32", "_type": "Value"} for name in _KEPT[1:]},
    }
    told = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": told})


def _batches(
    images: Iterator[RawImage], picks: pa.Table, labels: tuple[str, ...], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Rows of some images at a time, in the order in which the pool is read."""
    code = {label: i for i, label in enumerate(labels)}
    rows = {row["image_id"]: row for row in picks.to_pylist()}
    while batch := list(islice(images, _ROW_GROUP_IMAGES)):
        yield pa.Table.from_pylist(
            [
                {
                    "image": {"bytes": image.data, "path": image.image_id},
                    "label": code[rows[image.image_id]["label"]],
                    "image_id": image.image_id,
                    **{name: rows[image.image_id][name] for name in _KEPT},
                }
                for image in batch
            ],
            schema=schema,
        )


def _readme(run_id: str, licence: str | None) -> str:
    head = {
        "task_categories": ["image-classification"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": PART}]}],
    }
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# Picks of {run_id}\n\n"
        "Images that data-centric debugging chose from a pool with weak labels: `label` is the "
        "pool's, and may be wrong. `role` says whether an image is near a failure (targeted) or of "
        "the general sample, `min_distance` how near, `label_agreement` which share of its "
        "neighbours in the pool carry its label, `weight` what it weighs in the loss beside 1 for "
        f"an image of train.\n\nLicence of the pool: {licence or 'not stated'}.\n"
    )
