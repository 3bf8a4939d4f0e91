"""Shard embeddings → one order by label, in row groups that a label can be read by.

An external sort in DuckDB bounds the memory, whatever the size of the pool. Vectors travel through
it as bytes: DuckDB has no float16 and would double them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd import schemas
from dcd.errors import DataError
from dcd.sampling import BottomRows
from dcd.sql import clustered, connect

_MAX_GROUP_BYTES = 8 * 2**20  # of vectors in a row group: one read of an object store
_MIN_GROUP_BYTES = 2**18  # labels smaller than this share a row group
_MAX_PART_BYTES = 2**28  # of vectors in a file
_SORT_BATCH_ROWS = 8192

RUNS = pa.schema(
    [
        ("label", pa.string()),
        ("row_group", pa.int32()),
        ("offset", pa.int32()),
        ("n_rows", pa.int32()),
    ]
)
# Vectors hardly compress and are what is read; statistics on labels alone keep the footer small.
_WRITING = {
    "compression": {
        "weak_label": "zstd",
        "image_id": "zstd",
        "shard": "zstd",
        "content_hash": "none",
        "embedding.list.element": "none",
    },
    "use_dictionary": ["weak_label", "shard"],
    "write_statistics": ["weak_label"],
}


@dataclass(frozen=True)
class Part:
    """A finished local file of clustered rows, and which label's rows are where in it.

    runs: label, row_group int32, offset int32 (of the first row in its row group), n_rows int32.
    """

    path: Path
    runs: pa.Table


@dataclass
class Tally:
    """Counts of one pass, complete once all parts are taken.

    n_images = n_rows + n_unlabelled + n_duplicates - n_extra_labels.
    """

    n_rows: int = 0
    n_unlabelled: int = 0
    n_extra_labels: int = 0
    n_duplicates: int = 0


def cluster(
    rows: Iterator[pa.RecordBatch],
    labels: pa.Table | None,
    dim: int,
    max_memory_bytes: int,
    tally: Tally,
    sample: BottomRows,
) -> Iterator[Part]:
    """Write the rows in the order (weak_label, image_id) to files, one after the other.

    rows: schemas.embeddings(dim) plus `shard`. labels: see `dcd.sql.clustered`. Every file lives
    until the next one is asked for. The same rows give the same bytes, in whatever order they
    come. An image that two shards hold counts once; raises DataError if its bytes differ. The tally
    and the sample are complete once all parts are taken.
    """
    row_bytes = 2 * dim
    with TemporaryDirectory(prefix="dcd-cluster-") as scratch:
        folder = Path(scratch)
        # Outside DuckDB's own limit: a shard's batch, a row group being written, the libraries.
        with connect(max_memory_bytes // 2, folder) as connection:
            wire = _to_wire(rows, dim)
            ordered = clustered(connection, _wire_schema(dim), wire, labels, _SORT_BATCH_ROWS)
            labelled = (_labelled(batch, tally) for batch in ordered)
            distinct = _distinct((_from_wire(batch, dim) for batch in labelled), tally)
            batches = _sampled(distinct, sample)
            chunks = _label_chunks(batches, max(1, _MAX_GROUP_BYTES // row_bytes))
            groups = _row_groups(chunks, max(1, _MIN_GROUP_BYTES // row_bytes))
            yield from _parts(groups, folder, max(1, _MAX_PART_BYTES // row_bytes))


def _wire_schema(dim: int) -> pa.Schema:
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("weak_label", pa.string()),
            ("shard", pa.string()),
            ("content_hash", schemas.CONTENT_HASH),
            ("embedding", pa.binary(2 * dim)),
        ]
    )


def _to_wire(rows: Iterator[pa.RecordBatch], dim: int) -> Iterator[pa.RecordBatch]:
    schema = _wire_schema(dim)
    for batch in rows:
        vectors = batch.column("embedding").flatten().to_numpy()
        blobs = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(2 * dim), batch.num_rows, [None, pa.py_buffer(vectors)]
        )
        columns = [batch.column(name) for name in schema.names[:-1]]
        yield pa.record_batch([*columns, blobs], schema=schema)


def _labelled(batch: pa.RecordBatch, tally: Tally) -> pa.RecordBatch:
    tally.n_unlabelled += batch.column("weak_label").null_count
    tally.n_extra_labels += pc.sum(batch.column("extra_label"), min_count=0).as_py()
    return batch.filter(pc.is_valid(batch.column("weak_label")))


def _from_wire(batch: pa.RecordBatch, dim: int) -> pa.Table:
    schema = schemas.clustered(dim)
    column = batch.column("embedding").cast(pa.binary(2 * dim))
    start = column.offset * dim
    flat = np.frombuffer(column.buffers()[1], np.float16)[start : start + len(column) * dim]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=schema.field("embedding").type)
    hashes = batch.column("content_hash").cast(schemas.CONTENT_HASH)
    columns = [batch.column(name) for name in ("weak_label", "image_id", "shard")]
    return pa.table([*columns, hashes, vectors], schema=schema)


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


def _sampled(batches: Iterator[pa.Table], sample: BottomRows) -> Iterator[pa.Table]:
    for batch in batches:
        sample.take(batch)
        yield batch


def _label_chunks(batches: Iterator[pa.Table], max_rows: int) -> Iterator[pa.Table]:
    """Pieces of one label each, of `max_rows` rows; only a label's last one may be shorter."""
    open_rows: list[pa.Table] = []
    n_open, open_label = 0, None
    for batch in batches:
        for label, rows in _by_label(batch):
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


def _by_label(batch: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Cut a sorted batch where the label changes."""
    ends = pc.run_end_encode(batch["weak_label"].combine_chunks())
    start = 0
    for label, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        yield label, batch.slice(start, end - start)
        start = end


def _row_groups(chunks: Iterator[pa.Table], min_rows: int) -> Iterator[list[pa.Table]]:
    """Chunks that share a row group: a large one has its own, small neighbours are joined."""
    small: list[pa.Table] = []
    for chunk in chunks:
        if chunk.num_rows >= min_rows:
            if small:
                yield small
                small = []
            yield [chunk]
            continue
        small.append(chunk)
        if sum(piece.num_rows for piece in small) >= min_rows:
            yield small
            small = []
    if small:
        yield small


def _parts(groups: Iterator[list[pa.Table]], folder: Path, max_rows: int) -> Iterator[Part]:
    group = next(groups, None)
    number = 0
    while group is not None:
        path = folder / f"{number}.parquet"
        runs: list[tuple[str, int, int, int]] = []
        n_rows = row_group = 0
        with pq.ParquetWriter(path, group[0].schema, **_WRITING) as writer:
            while group is not None and (n_rows == 0 or n_rows + _n_rows(group) <= max_rows):
                offset = 0
                for chunk in group:
                    label = chunk["weak_label"][0].as_py()
                    runs.append((label, row_group, offset, chunk.num_rows))
                    offset += chunk.num_rows
                writer.write_table(pa.concat_tables(group), row_group_size=offset)
                n_rows += offset
                row_group += 1
                group = next(groups, None)
        yield Part(path, pa.table(list(zip(*runs, strict=True)), schema=RUNS))
        path.unlink()
        number += 1


def _n_rows(group: list[pa.Table]) -> int:
    return sum(chunk.num_rows for chunk in group)
