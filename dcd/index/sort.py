"""Bring shard embeddings into one order by label, in row groups a label can be read by.

An external sort bounds the memory, whatever the size of the pool. Vectors travel through it as
bytes, as the files of the index hold them.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.index.external_sort import ExternalSort
from dcd.index.layout import Layout
from dcd.index.parts import (
    MAX_GROUP_BYTES,
    MAX_PART_BYTES,
    MIN_GROUP_BYTES,
    Part,
    cut_parts,
    grouped,
)
from dcd.index.recall import Judge
from dcd.index.sample import BottomK
from dcd.scratch import scratch_folder
from dcd.tables import schemas
from dcd.tables.rows import with_column
from dcd.tables.sql import connect, relabelled
from dcd.tables.vectors import (
    blobs_as_lists,
    embedding_matrix,
    from_blobs,
    lists_as_blobs,
    to_blobs,
    vector_lists,
)
from dcd.threads import taken_ahead

_ORDER = ("weak_label", "list", "image_id", "shard")
_JOIN_BATCH_ROWS = 8192


@dataclass
class Tally:
    """Counts of one pass, complete once all parts are taken.

    n_images = n_rows + n_unlabelled + n_duplicates - n_extra_labels.
    """

    n_rows: int = 0
    n_unlabelled: int = 0
    n_extra_labels: int = 0
    n_duplicates: int = 0


@dataclass(frozen=True)
class Observers:
    """What sees the rows pass by; complete once all parts are taken."""

    tally: Tally
    sample: BottomK
    judge: Judge


@dataclass(frozen=True)
class Sizes:
    """How rows are cut: most of a row group, least of one that no other label shares, most of a
    file.
    """

    group_rows: int
    own_group_rows: int
    part_rows: int


def sizes_of(stored_bytes: int) -> Sizes:
    """Return how rows with vectors of so many bytes are cut."""
    return Sizes(
        max(1, MAX_GROUP_BYTES // stored_bytes),
        max(1, MIN_GROUP_BYTES // stored_bytes),
        max(1, MAX_PART_BYTES // stored_bytes),
    )


def sort_by_label(dim: int, folder: Path, max_memory_bytes: int) -> ExternalSort:
    """Return an empty sort by (weak_label, list, image_id, shard), for `gather` and `cluster`.

    folder: for what does not fit in memory.
    """
    return ExternalSort(wire_schema(dim), _ORDER, folder, max_memory_bytes)


def gather(
    rows: Iterator[pa.Table], layout: Layout, sample: BottomK, into: ExternalSort, dim: int
) -> None:
    """Take all rows into a sort. rows: schemas.clustered(dim), in any order."""
    schema = wire_schema(dim)
    for table in sample.seeing(rows):
        into.take(to_wire(table, schema, layout))


def cluster(
    gathered: ExternalSort,
    layout: Layout,
    dim: int,
    known: Callable[[str], pa.Table | None],
    observers: Observers,
    folder: Path,
    sizes: Sizes | None = None,
) -> Generator[Part, None, None]:
    """Write the gathered rows by (weak_label, list, image_id) to files, one after the other.

    known: image_id, shard and content_hash of the rows of a label that the index has already.
    folder: for the files, which whoever takes them removes. The same rows give the same bytes, in
    whatever order they came. An image that two shards hold counts once (unless its vectors differ
    so much that they fall in two lists); raises DataError if its bytes differ.
    """
    tally = observers.tally
    sizes = sizes or sizes_of(2 * dim if layout.codec is None else layout.codec.code_bytes)
    chunks = distinct_chunks(gathered, sizes.group_rows, tally)
    new_chunks = _without_known(chunks, known, tally)
    stored = (_stored(chunk, layout, observers) for chunk in new_chunks)
    yield from cut_parts(grouped(stored, sizes.own_group_rows), folder, sizes.part_rows)


def distinct_chunks(gathered: ExternalSort, max_rows: int, tally: Tally) -> Iterator[pa.Table]:
    """Yield the gathered rows by (weak_label, list, image_id), each image once in a list.

    In pieces of one label and list, of `max_rows` rows but for the last. Raises DataError if an
    image has different bytes in two shards.
    """
    # Merged in a thread: copying and writing release Python's lock.
    return _label_chunks(_distinct(taken_ahead([gathered.sorted()]), tally), max_rows)


def labelled(
    rows: Iterator[pa.RecordBatch],
    labels: pa.Table | None,
    dim: int,
    max_memory_bytes: int,
    tally: Tally,
) -> Iterator[pa.Table]:
    """Yield schemas.clustered(dim): the rows with a label, in any order.

    rows: schemas.embeddings(dim) plus `shard`. labels: image_id, label or weak_label, label; None:
    the weak labels.
    """
    schema = schemas.clustered(dim)
    if labels is None:
        for batch in rows:
            tally.n_unlabelled += batch.column("weak_label").null_count
            yield schemas.conform(pa.table(_with_label(batch)), schema, "pool")
        return
    with (
        scratch_folder("labels") as scratch,
        connect(max_memory_bytes // 4, scratch) as connection,
    ):
        unlabelled = _unlabelled_schema(dim)
        wire = (_to_unlabelled_wire(batch, unlabelled) for batch in rows)
        for batch in relabelled(connection, unlabelled, wire, labels, _JOIN_BATCH_ROWS):
            tally.n_unlabelled += batch.column("weak_label").null_count
            tally.n_extra_labels += pc.sum(batch.column("extra_label"), min_count=0).as_py()
            yield _from_unlabelled_wire(_with_label(batch), dim)


def _with_label(batch: pa.RecordBatch) -> pa.RecordBatch:
    labels = batch.column("weak_label")
    return batch.filter(pc.is_valid(labels)) if labels.null_count else batch  # not copied


def wire_schema(dim: int) -> pa.Schema:
    """Describe the rows of a sort: schemas.clustered(dim), vectors as bytes, and `list`."""
    schema = schemas.clustered(dim).append(pa.field("list", pa.int32(), nullable=False))
    vectors = pa.field("embedding", pa.binary(2 * dim), nullable=False)
    return schema.set(schema.get_field_index("embedding"), vectors)


def to_wire(rows: pa.Table, schema: pa.Schema, layout: Layout) -> pa.Table:
    """Bring rows of schemas.clustered into the form of a sort, `schema`, each with its list."""
    columns = {name: rows[name] for name in rows.column_names}
    columns["list"] = pa.chunked_array([layout.lists_of(rows)])
    columns["embedding"] = lists_as_blobs(rows["embedding"])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _unlabelled_schema(dim: int) -> pa.Schema:
    names = ["weak_label", "image_id", "shard", "content_hash", "embedding"]
    schema = wire_schema(dim)
    return pa.schema([schema.field(name).with_nullable(True) for name in names])


def _to_unlabelled_wire(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = {name: rows.column(name) for name in schema.names}
    vectors = pa.chunked_array([columns["embedding"]])
    columns["embedding"] = lists_as_blobs(vectors).chunk(0)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _from_unlabelled_wire(batch: pa.RecordBatch, dim: int) -> pa.Table:
    schema = schemas.clustered(dim)
    vectors = from_blobs(batch.column("embedding"), np.float16, 2 * dim)
    columns: dict[str, pa.Array] = {name: batch.column(name) for name in batch.schema.names}
    columns["content_hash"] = columns["content_hash"].cast(schemas.CONTENT_HASH)
    columns["embedding"] = vector_lists(vectors, schema.field("embedding").type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _distinct(batches: Iterator[pa.Table], tally: Tally) -> Iterator[pa.Table]:
    """Without the rows that repeat the one before: an image that stands in two shards."""
    last: pa.Table | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        joined = batch if last is None else pa.concat_tables([last, batch])
        above, below = joined.slice(0, joined.num_rows - 1), joined.slice(1)
        repeated = pc.and_(
            pc.equal(above["image_id"], below["image_id"]),
            pc.equal(above["weak_label"], below["weak_label"]),
        )
        if pc.any(repeated).as_py():
            _refuse_contradictions(above.filter(repeated), below.filter(repeated))
            tally.n_duplicates += pc.sum(repeated).as_py()
            below = below.filter(pc.invert(repeated))
        if last is None:
            below = pa.concat_tables([joined.slice(0, 1), below])
        tally.n_rows += below.num_rows
        yield below
        last = batch.slice(batch.num_rows - 1)


def _refuse_contradictions(above: pa.Table, below: pa.Table) -> None:
    differ = pc.not_equal(above["content_hash"], below["content_hash"])
    if pc.any(differ).as_py():
        at = pc.index(differ.combine_chunks(), True).as_py()
        raise DataError(
            f"pool: image_id {above['image_id'][at].as_py()!r} names different images in the "
            f"shards {above['shard'][at].as_py()} and {below['shard'][at].as_py()}; make the "
            "ids unique"
        )


def _without_known(
    chunks: Iterator[pa.Table], known: Callable[[str], pa.Table | None], tally: Tally
) -> Iterator[pa.Table]:
    """Without the rows that the index has already under the same label."""
    label, there = None, None
    for chunk in chunks:
        if chunk["weak_label"][0].as_py() != label:
            label = chunk["weak_label"][0].as_py()
            there = known(label)
        if there is not None:
            at = pc.index_in(
                chunk["image_id"], value_set=there["image_id"].combine_chunks()
            ).combine_chunks()
            repeated = pc.is_valid(at)
            _refuse_contradictions(there.take(at.filter(repeated)), chunk.filter(repeated))
            n_repeated = pc.sum(repeated, min_count=0).as_py()
            tally.n_duplicates += n_repeated
            tally.n_rows -= n_repeated
            chunk = chunk.filter(pc.invert(repeated))
        if chunk.num_rows:
            yield chunk


def _stored(chunk: pa.Table, layout: Layout, observers: Observers) -> pa.Table:
    """A chunk as its file holds it: vectors as bytes, or codes where there is a codec.

    Bytes are read as they lie; of a list Parquet counts every number, for ten times as long.
    """
    label, number = chunk["weak_label"][0].as_py(), chunk["list"][0].as_py()
    stored = chunk.combine_chunks()  # or the pages would follow from how the rows came
    vectors = stored.schema.field("embedding")
    kind = schemas.clustered(vectors.type.byte_width // 2).field("embedding")
    lists = blobs_as_lists(stored["embedding"], kind.type)
    rows = with_column(stored.drop_columns("list"), "embedding", lists, kind)
    observers.sample.take(rows)
    observers.judge.take(label, number, rows)
    if layout.codec is None:
        return stored
    codes = to_blobs(layout.codec.encode(embedding_matrix(rows)))
    return with_column(stored, "embedding", codes, pa.field("code", codes.type, nullable=False))


def _label_chunks(batches: Iterator[pa.Table], max_rows: int) -> Iterator[pa.Table]:
    """Pieces of one label and list, of `max_rows` rows; only the last of a list may be shorter."""
    open_rows: list[pa.Table] = []
    n_open, open_label = 0, None
    for batch in batches:
        for label, rows in _by_list(batch):
            if label != open_label and n_open:
                yield pa.concat_tables(open_rows)
                open_rows, n_open = [], 0
            open_label = label
            while rows.num_rows:
                taken = rows.slice(0, max_rows - n_open)
                open_rows.append(taken)
                n_open += taken.num_rows
                rows = rows.slice(taken.num_rows)
                if n_open == max_rows:
                    yield pa.concat_tables(open_rows)
                    open_rows, n_open = [], 0
    if n_open:
        yield pa.concat_tables(open_rows)


def _by_list(batch: pa.Table) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Cut a sorted batch where the label or the list changes."""
    labels = pc.run_end_encode(batch["weak_label"].combine_chunks()).run_ends.to_numpy()
    lists = pc.run_end_encode(batch["list"].combine_chunks()).run_ends.to_numpy()
    start = 0
    for end in np.union1d(labels, lists).tolist():
        label, number = batch["weak_label"][start].as_py(), batch["list"][start].as_py()
        yield (label, number), batch.slice(start, end - start)
        start = end
