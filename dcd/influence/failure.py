"""Find the image that was asked about: its features, its label, where its picture is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.cell import CellPlan
from dcd.config import Split
from dcd.encoders.encoder import load_encoder
from dcd.encoders.int8 import placed
from dcd.encoders.pictures import embed_pictures
from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.failures.registry import read_registry
from dcd.sources.source import fetch_shown
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix

_ORDER: tuple[Split, ...] = ("error_sample", "debug_heldout", "debug_val", "test", "train")


@dataclass(frozen=True, eq=False)
class Failure:
    """An image that is asked about. split: of the run it is in, None for none of them.

    features: (D,) float32. picture: its encoded bytes; None where they cannot be read any more.
    """

    image_id: str
    label: str
    split: str | None
    features: np.ndarray
    picture: bytes | None


def find_failure(store: Store, plan: CellPlan, wanted: str, label: str | None) -> Failure:
    """Find an image by id, by file or by the content in hex of a registered failure.

    An image of the run's splits has its label there. label: of a picture that the store does not
    know. Raises DataError for what is not found or does not decode, LabelError without a label.
    """
    path = Path(wanted)
    data = path.read_bytes() if path.is_file() else None
    content = None if data is None else schemas.content_hash(data)
    found = _in_splits(store, plan.splits, wanted, content)
    if found is not None:
        return found
    registered = _registered(store, wanted if content is None else content.hex())
    if registered is not None:
        data, known = registered
        label = known if label is None else label
    if data is None:
        raise DataError(
            f"{wanted!r:.100}: no file, no image of the run's splits and no registered failure; "
            "give an id of `dcd serve`'s pages, or a picture file"
        )
    if label is None:
        raise LabelError(f"{wanted}: is in no split of the run; give its true label with --label")
    config = placed(plan.encoder, store.url, plan.pool.id)
    if load_encoder(config).encoder_id != plan.index.encoder_id:
        raise EncoderMismatch(
            f"{wanted}: this machine's encoder is another one than the run's "
            f"({plan.index.encoder_id}), so that the picture cannot be compared; ask about an "
            "image of the run"
        )
    features = embedding_matrix(embed_pictures(config, {wanted: data}))[0]
    return Failure(wanted, label, None, features, data)


def _in_splits(
    store: Store, splits: Mapping[Split, SplitInfo], wanted: str, content: bytes | None
) -> Failure | None:
    for split in _ORDER:
        if split not in splits:
            continue
        table = split_table(store, splits[split])
        if content is None:
            mask = pc.equal(table["image_id"], wanted)
        else:
            mask = pc.equal(table["content_hash"], pa.scalar(content, schemas.CONTENT_HASH))
        rows = table.filter(mask)
        if rows.num_rows:
            row = rows.slice(0, 1)
            image_id = row["image_id"][0].as_py()
            place = row.select(["image_id", "shard"])
            picture = fetch_shown(store, splits[split].sources, place).get(image_id)
            label = row["label"][0].as_py()
            return Failure(image_id, label, split, embedding_matrix(row)[0], picture)
    return None


def _registered(store: Store, image_id: str) -> tuple[bytes, str] | None:
    """Bytes and label of a registered failure, whose id is its content in hex."""
    failures = read_registry(store).failures
    row = failures.filter(pc.equal(failures["image_id"], image_id))
    if row.num_rows == 0:
        return None
    batch = store.read_table(keys.failure_batch(row["batch"][0].as_py()), ["image_id", "image"])
    here = batch.filter(pc.equal(batch["image_id"], image_id))
    return here["image"][0].as_py(), row["label"][0].as_py()
