"""Make an error sample and honest debug splits of "my model and this folder".

The images are cut into three roles first, by their content alone. The error sample is what the
model gets wrong in its part. debug_val and debug_heldout must not be chosen by the model's
mistakes: on images picked because a model fails there, any other model looks better (regression to
the mean), and the gate would promote a null candidate. So they hold every image of their parts
that lies near a failure mode, whether the model gets it right or wrong.
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.failures.answers import Answers
from dcd.failures.modes import place, propose
from dcd.scratch import scratch_folder
from dcd.sources.listing import list_shards
from dcd.sources.shards import fetch_images

ROLES = ("error_sample", "debug_val", "debug_heldout")
IMAGES, ROWS, PAGE = "images.parquet", "roles.parquet", "errors.html"
_ROW_GROUP_IMAGES = 256


@dataclass(frozen=True)
class ModeCount:
    """One failure mode: its failures, and the debug images near it with the model's accuracy."""

    label: str
    mode: str
    n_failures: int
    n_near: int
    accuracy_near: float | None


@dataclass(frozen=True)
class ErrorCollection:
    """rows: image_id, role, label, predicted, confidence, mode, shard. modes: most failures first.

    accuracy: of the model on all n_images that it was asked about.
    """

    rows: pa.Table
    modes: tuple[ModeCount, ...]
    accuracy: float
    n_images: int


def collect_errors(answers: Answers, shares: tuple[float, float, float]) -> ErrorCollection:
    """Cut the images into roles and put them to failure modes.

    shares: of error_sample, debug_val and debug_heldout; they add up to 1. Raises DataError if
    the model makes no mistake in the error sample's part.
    """
    rows = answers.rows
    role = _roles(rows["content"].to_pylist(), shares)
    wrong = pc.not_equal(rows["label"], rows["predicted"]).to_numpy(zero_copy_only=False)
    failing = wrong & (role == 0)
    if not failing.any():
        raise DataError(
            f"the model gets all {int((role == 0).sum())} images of the error sample's part right "
            f"({int(wrong.sum())} of {len(wrong)} wrong in all): no failure to learn from"
        )
    labels = np.array(rows["label"].to_pylist(), dtype=object)
    features = answers.features.astype(np.float32)
    modes = propose(features[failing], labels[failing].tolist())
    placed = place(modes, features, labels.tolist())
    # A label with one failure has no extent of its own.
    widest = max(found.reach for found in modes.values())
    reach = np.array([(modes[y].reach or widest) if y in modes else -1.0 for y in labels])
    near = placed.distance <= reach if widest > 0 else np.isfinite(placed.distance)
    taken = np.flatnonzero(failing | ((role > 0) & near))
    table = (
        rows.drop_columns(["content"])
        .append_column("role", pa.array([ROLES[i] for i in role]))
        .append_column("mode", pa.array(placed.modes, pa.string()))
        .take(taken)
        .sort_by([("role", "descending"), ("image_id", "ascending")])
    )
    return ErrorCollection(table, _mode_counts(table), float(1 - wrong.mean()), len(wrong))


def write_collection(folder: Path, data: DataConfig, found: ErrorCollection) -> None:
    """Write images.parquet and, last, roles.parquet; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ROWS).unlink(missing_ok=True)
    with scratch_folder("failures", within=folder) as scratch:
        _write_images(scratch / IMAGES, data, found.rows)
        pq.write_table(found.rows.drop_columns(["shard"]), scratch / ROWS)
        for name in (IMAGES, ROWS):
            os.replace(scratch / name, folder / name)


def read_images(folder: Path, ids: Collection[str]) -> Mapping[str, bytes]:
    """Read encoded images of a written collection, by id."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, bytes] = {}
    with pq.ParquetFile(folder / IMAGES) as file:
        for batch in file.iter_batches(_ROW_GROUP_IMAGES, columns=["image_id", "image"]):
            kept = batch.filter(pc.is_in(batch["image_id"], value_set=wanted))
            found |= dict(zip(kept["image_id"].to_pylist(), kept["image"].to_pylist(), strict=True))
    return found


def _roles(contents: list[bytes], shares: tuple[float, float, float]) -> np.ndarray:
    """Role of each image, (N,) int: by its content, so that copies never stand in two roles."""
    draws = np.array([int.from_bytes(content[:8], "big") / 2**64 for content in contents])
    return np.searchsorted(np.cumsum(shares)[:2], draws, side="right")


def _mode_counts(table: pa.Table) -> tuple[ModeCount, ...]:
    failures: Counter[tuple[str, str]] = Counter()
    near: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for row in table.select(["role", "label", "predicted", "mode"]).to_pylist():
        key = row["label"], row["mode"]
        if row["role"] == "error_sample":
            failures[key] += 1
        else:
            near[key] += 1
            right[key] += row["label"] == row["predicted"]
    ordered = sorted(failures, key=lambda key: (-failures[key], key))
    return tuple(
        ModeCount(*key, failures[key], near[key], right[key] / near[key] if near[key] else None)
        for key in ordered
    )


def _write_images(path: Path, data: DataConfig, rows: pa.Table) -> None:
    schema = pa.schema([("image_id", pa.string()), ("image", pa.binary()), ("label", pa.string())])
    label_of = dict(zip(rows["image_id"].to_pylist(), rows["label"].to_pylist(), strict=True))
    shards = {shard.name: shard for shard in list_shards(data)}
    with pq.ParquetWriter(path, schema) as writer:
        for name in sorted(set(rows["shard"].to_pylist())):
            ids = rows.filter(pc.equal(rows["shard"], name))["image_id"].to_pylist()
            batch: list[dict[str, object]] = []
            for image in fetch_images(shards[name], data, ids):
                label = label_of[image.image_id]
                batch.append({"image_id": image.image_id, "image": image.data, "label": label})
                if len(batch) == _ROW_GROUP_IMAGES:
                    writer.write_table(pa.Table.from_pylist(batch, schema))
                    batch = []
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema))
