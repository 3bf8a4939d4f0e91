"""Gather labelled splits: which images belong to train, test or an error sample, and how labelled.

A split is a view of an image source: the embeddings of the source's shards joined with the labels
table. Sources are embedded once however many splits share them.
"""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError, LabelError
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix, why_not_finite

_COMPARED = 10_000  # rows at most, spread over the split
_IDS_AT_ONCE = 2**21  # bounds memory: about 200 MB


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
    Raises LabelError for images that have no label, DataError if labelled images are nowhere, or
    those of train have one vector alone.
    """
    every = list(shard_names)
    read = (keys.embeddings(source_id, encoder_id, shard) for shard in every)
    if labels is None:
        parts = [
            _with_shard(finite_rows(store, key), s) for s, key in zip(every, read, strict=True)
        ]
    else:
        ids = ((shard, _ids(store, key)) for shard, key in zip(every, read, strict=True))
        parts = [
            _with_shard(
                finite_rows(store, keys.embeddings(source_id, encoder_id, shard)), shard
            ).filter(mask)
            for shard, mask in _labelled_rows(ids, labels["image_id"])
        ]
    if not parts:
        like = "" if labels is None else f" (they have ids like {labels['image_id'][0].as_py()!r})"
        raise DataError(
            f"{place}: none of its images was embedded{like}; check `images` and `labels`"
        )
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


def _ids(store: Store, key: str) -> pa.Array:
    return store.read_table(key, ["image_id"])["image_id"].combine_chunks()


def finite_rows(store: Store, key: str) -> pa.Table:
    """Read a table of embeddings. Raises ObjectUnreadable if it is damaged or not finite."""
    rows = store.read_table(key)
    if why := why_not_finite(rows):
        raise store.damaged(key, why)
    return rows


def _with_shard(part: pa.Table, shard: str) -> pa.Table:
    return part.append_column("shard", pa.repeat(shard, part.num_rows))


def _labelled_rows(
    shards: Iterable[tuple[str, pa.Array]], labelled: pa.ChunkedArray
) -> Iterator[tuple[str, pa.Array]]:
    """Name the shards that hold labelled images, each with a mask of their rows.

    shards: names with the ids of their rows. Ids are looked up many shards at once: a look-up
    costs what all labels cost, however few ids are asked for.
    """
    waiting: list[tuple[str, pa.Array]] = []
    n_ids = 0
    for shard, ids in shards:
        waiting.append((shard, ids))
        n_ids += len(ids)
        if n_ids >= _IDS_AT_ONCE:
            yield from _look_up(waiting, labelled)
            waiting, n_ids = [], 0
    yield from _look_up(waiting, labelled)


def _look_up(
    shards: Sequence[tuple[str, pa.Array]], labelled: pa.ChunkedArray
) -> Iterator[tuple[str, pa.Array]]:
    ids = pa.chunked_array([ids for _, ids in shards], pa.string())
    if len(labelled) > len(ids):  # the smaller of the two becomes the hash table
        labelled = labelled.filter(pc.is_in(labelled, value_set=ids))
    masks = pc.is_in(ids, value_set=labelled)
    start = 0
    for shard, of_shard in shards:
        mask = masks.slice(start, len(of_shard)).combine_chunks()
        start += len(of_shard)
        if pc.any(mask, min_count=0).as_py():
            yield shard, mask


def _joined(rows: pa.Table, labels: pa.Table, place: str) -> pa.Table:
    _refuse_repeats(rows, place)
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
    if place == "train":
        _refuse_one_vector(features)
    return features.append_column("shard", taken["shard"]).sort_by("image_id")


def _refuse_one_vector(features: pa.Table) -> None:
    """Raise DataError if different pictures of train all have one vector: nothing can be learnt."""
    step = -(-features.num_rows // _COMPARED)
    some = features.take(pa.array(range(0, features.num_rows, step), pa.int64()))
    vectors = embedding_matrix(some)
    if pc.count_distinct(some["label"]).as_py() > 1 and (vectors == vectors[0]).all():
        raise DataError(
            f"train: the encoder gives {some.num_rows:,} pictures of different labels one and the "
            "same vector, as weights do that are damaged or belong elsewhere; give another "
            "encoder or checkpoint"
        )


def _refuse_repeats(rows: pa.Table, place: str) -> None:
    """Raise DataError, naming both shards, if an id stands in two."""
    counts = rows.group_by("image_id").aggregate([([], "count_all"), ("shard", "min_max")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        first = twice.sort_by("image_id").slice(0, 1).to_pylist()[0]
        places = first["shard_min_max"]
        raise DataError(
            f"{place}: image_id {first['image_id']!r} stands in two shards, {places['min']} and "
            f"{places['max']}; make the ids unique"
        )
