"""Gather labelled splits: which images belong to train, test or an error sample, and how labelled.

A split is a view of an image source: the embeddings of the source's shards joined with the labels
table. Sources are embedded once however many splits share them.
"""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError, LabelError
from dcd.store import Store, keys
from dcd.tables import schemas


def gather(
    store: Store,
    source_id: str,
    encoder_id: str,
    shard_names: Iterable[str],
    labels: pa.Table | None,
    place: str,
    *,
    unique: bool = False,
) -> pa.Table:
    """Gather a split's labelled features: schemas.labelled_features and `shard`, by image_id.

    unique: an id names the same picture wherever it stands, so that its first shard counts.
    `labels` picks and labels the images; None takes every image with the label of its source.
    Raises LabelError for images that have no label, DataError if labelled images are nowhere.
    """
    parts = []
    for shard in shard_names:
        key = keys.embeddings(source_id, encoder_id, shard)
        if labels is not None:
            ids = store.read_table(key, ["image_id"])["image_id"]
            if not pc.any(pc.is_in(ids, value_set=labels["image_id"])).as_py():
                continue
        part = store.read_table(key)
        if labels is not None:
            part = part.filter(pc.is_in(part["image_id"], value_set=labels["image_id"]))
        parts.append(part.append_column("shard", pa.repeat(shard, part.num_rows)))
    if not parts:
        raise DataError(f"{place}: none of its images was embedded; check `images` and `labels`")
    rows = pa.concat_tables(parts).replace_schema_metadata(None).combine_chunks()
    if unique:
        numbered = rows.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        firsts = numbered.group_by("image_id", use_threads=False).aggregate([("row", "min")])
        rows = rows.take(firsts["row_min"].combine_chunks())
    if labels is None:
        if rows["weak_label"].null_count:
            raise LabelError(
                f"{place}: {rows['weak_label'].null_count} of {rows.num_rows} images have no "
                "label; give a `labels` table or label the images"
            )
        labels = pa.table(
            {
                "image_id": rows["image_id"],
                "label": rows["weak_label"],
                "mode": pa.nulls(rows.num_rows, pa.string()),
            }
        )
    return _joined(rows, labels, place)


def _joined(rows: pa.Table, labels: pa.Table, place: str) -> pa.Table:
    if pc.count_distinct(rows["image_id"]).as_py() < rows.num_rows:
        raise DataError(f"{place}: an image_id stands in two shards; make the ids unique")
    row_of_id = pc.index_in(labels["image_id"], value_set=rows["image_id"].combine_chunks())
    found = labels.filter(pc.is_valid(row_of_id))
    if found.num_rows == 0:
        raise DataError(
            f"{place}: no image_id of its labels is among its images; the labels have ids like "
            f"{labels['image_id'][0].as_py()!r}, the images like {rows['image_id'][0].as_py()!r}"
        )
    taken = rows.take(pc.drop_null(row_of_id))
    dim = rows.schema.field("embedding").type.list_size
    table = found.append_column("content_hash", taken["content_hash"])
    table = table.append_column("embedding", taken["embedding"])
    features = schemas.conform(table, schemas.labelled_features(dim), place)
    return features.append_column("shard", taken["shard"]).sort_by("image_id")
