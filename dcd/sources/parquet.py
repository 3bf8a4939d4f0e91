"""Parquet files with a column of encoded images, read row group by row group."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.sources.objects import OPENED, open_object
from dcd.sources.parquet_cells import (
    Columns,
    LabelForm,
    columns_of,
    image_parts,
    label_columns,
    label_form,
    read_beside,
)
from dcd.sources.records import (
    MAX_ID_CHARS,
    MAX_IMAGE_BYTES,
    ListedImage,
    RawImage,
    Reject,
    Shard,
    short_id,
    too_long_id,
    too_many_bytes,
    unreadable_label,
    without_id,
)
from dcd.store.requests import footer_requests
from dcd.tables.labels import cleaned, id_column
from dcd.tables.parquet_footer import Chunks, read_footer_of

_BATCH_BYTES = 32 * 2**20
READ_BYTES = 4 * 2**20
LOOKED_INTO = OPENED + footer_requests(0)  # `open_parquet` on S3, as `read_footer` does it
# Arrow reports damaged files as either of the first two, names that are no UTF-8 as the third.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class _Damage:
    """`n_rows` rows that could not be read."""

    n_rows: int
    reason: str


def open_parquet(uri: str) -> pq.ParquetFile:
    """Raises an `UNREADABLE` error if the footer is damaged, StoreError if the store fails."""
    return open_described(uri)[0]


def open_described(uri: str) -> tuple[pq.ParquetFile, list[Chunks]]:
    """Open a file, and tell of the chunks of each row group; raises what `open_parquet` does."""
    source = open_object(uri)
    metadata, groups = read_footer_of(source)
    file = pq.ParquetFile(
        source,
        metadata=metadata,
        pre_buffer=False,
        buffer_size=READ_BYTES,
        page_checksum_verification=True,
    )
    return file, groups


@dataclass(frozen=True)
class Footer:
    """What the footer of a file of images tells; all None if the file is damaged.

    other_label_column: a second column that would be taken for the labels, if it were alone.
    """

    n_rows: int | None = None
    labels: LabelForm | None = None
    label_column: str | None = None
    other_label_column: str | None = None
    n_without_bytes: int = 0

    @property
    def is_read(self) -> bool:
        return self.n_rows is not None


def read_footer(uri: str, data: DataConfig) -> Footer:
    """Raises StoreError if the store fails."""
    try:
        file, groups = open_described(uri)
        n_without_bytes = _n_without_bytes(file.schema_arrow, groups, data.image_column)
    except UNREADABLE:
        return Footer()
    schema = file.schema_arrow
    labels = [*label_columns(schema, data), None, None]
    return Footer(
        file.metadata.num_rows, label_form(schema, data), labels[0], labels[1], n_without_bytes
    )


def read_parquet(shard: Shard, data: DataConfig) -> Iterator[RawImage | Reject]:
    """The images of a Parquet file in row order. A damaged row group costs only its rows.

    Raises DataError if the columns are not there.
    """
    try:
        file = open_parquet(shard.uri)
    except UNREADABLE as err:
        yield Reject(shard.name, "read", f"not a readable Parquet file: {err}"[:200])
        return
    columns = columns_of(file.schema_arrow, data, shard.uri)
    first_row = 0
    for group in range(file.num_row_groups):
        row = first_row
        for batch in _batches(file, group, columns):
            if isinstance(batch, _Damage):
                for lost in range(row, row + batch.n_rows):
                    yield Reject(f"{shard.name}/{lost}", "read", batch.reason)
            else:
                yield from _rows(batch, columns, shard, row)
                row += batch.num_rows
        first_row += file.metadata.row_group(group).num_rows


def fetch_parquet(shard: Shard, data: DataConfig, wanted: frozenset[str]) -> Iterator[RawImage]:
    """Only the wanted images: ids are read first, then the row groups that hold them."""
    file = open_parquet(shard.uri)
    columns = columns_of(file.schema_arrow, data, shard.uri)
    first_row = 0
    for group in range(file.num_row_groups):
        n_rows = file.metadata.row_group(group).num_rows
        rows = first_row + _wanted_rows(file, group, columns, shard.name, first_row, wanted)
        row = first_row
        for batch in _batches(file, group, columns) if rows.size else ():
            if isinstance(batch, _Damage) or row > rows[-1]:
                break
            here = rows[(rows >= row) & (rows < row + batch.num_rows)] - row
            for image in _rows(batch, columns, shard, row, here) if here.size else ():
                if isinstance(image, RawImage):
                    yield image
            row += batch.num_rows
        first_row += n_rows


def list_parquet(shard: Shard, data: DataConfig) -> Iterator[ListedImage | Reject]:
    """What `read_parquet` would read, from the id and label columns alone.

    Ends at damage, with a reject. Raises DataError if the columns are not there.
    """
    row = 0
    try:
        file = open_parquet(shard.uri)
        columns = columns_of(file.schema_arrow, data, shard.uri)
        for batch in file.iter_batches(columns=columns.beside_image()):
            yield from _listed(batch, columns, shard.name, row)
            row += batch.num_rows
    except UNREADABLE as err:
        yield Reject(f"{shard.name}/{row}", "read", f"damaged Parquet file: {err}"[:200])


def rows_without_bytes(shard: Shard, data: DataConfig, at_most: int) -> Iterator[Reject | None]:
    """Look for the image of rows that hold no bytes, the first `at_most`: None for one that is.

    Of groups of rows that all lack them, which the footer tells; they may name files. Raises
    DataError if the columns are not there, StoreError if the store fails.
    """
    with suppress(*UNREADABLE):
        file, groups = open_described(shard.uri)
        columns = columns_of(file.schema_arrow, data, shard.uri)
        leaf = _bytes_leaf(file.schema_arrow, columns.image)
        first_row = 0
        for group, chunks in enumerate(groups):
            n_rows = file.metadata.row_group(group).num_rows
            if at_most <= 0:
                return
            if n_rows and _n_nulls(chunks, leaf) == n_rows:
                batches = file.iter_batches(
                    at_most, row_groups=[group], columns=columns.names(), use_threads=False
                )
                for batch in islice(batches, 1):
                    for image in _rows(batch, columns, shard, first_row):
                        yield image if isinstance(image, Reject) else None
                at_most -= n_rows
            first_row += n_rows


def _n_without_bytes(schema: pa.Schema, groups: Sequence[Chunks], image: str) -> int:
    """Rows without image bytes, as far as the footer tells."""
    if image not in schema.names:
        return 0
    leaf = _bytes_leaf(schema, image)
    return sum(_n_nulls(chunks, leaf) or 0 for chunks in groups)


def _bytes_leaf(schema: pa.Schema, image: str) -> str:
    """The path of the column of bytes, as a footer writes it."""
    return f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image


def _n_nulls(chunks: Chunks, leaf: str) -> int | None:
    return chunks[leaf].n_nulls if leaf in chunks else None


def _listed(
    batch: pa.RecordBatch, columns: Columns, shard: str, first_row: int
) -> Iterator[ListedImage | Reject]:
    ids = _ids(batch, columns, shard, first_row)
    labels = None
    if columns.label is not None:
        labels = cleaned(batch.column(columns.label), columns.code_book)
    for row, image_id in enumerate(ids):
        label, reason = (None, None) if labels is None else labels.row(row)
        if image_id is None:
            yield without_id(f"{shard}/{first_row + row}", columns.id)
        elif reason is not None:
            yield unreadable_label(image_id, reason)
        else:
            yield ListedImage(image_id, label, labels and labels.spelling(row))


def _ids(batch: pa.RecordBatch, columns: Columns, shard: str, first_row: int) -> list[str | None]:
    """The id of every row, None where its column has none; without a column by the row's number."""
    if columns.id is None:
        return [f"{shard}/{row}" for row in range(first_row, first_row + batch.num_rows)]
    return id_column(batch.column(columns.id)).to_pylist()


def _wanted_rows(
    file: pq.ParquetFile,
    group: int,
    columns: Columns,
    shard: str,
    first_row: int,
    wanted: Collection[str],
) -> np.ndarray:
    """Row numbers within the row group, ascending, from the id column alone."""
    if columns.id is None:
        rows = range(first_row, first_row + file.metadata.row_group(group).num_rows)
        ids = pa.array([f"{shard}/{row}" for row in rows], pa.string())
    else:
        column = file.read_row_group(group, columns=[columns.id], use_threads=False).column(0)
        ids = id_column(column)
    is_wanted = pc.is_in(ids, value_set=pa.array(list(wanted), pa.string()))
    return np.flatnonzero(is_wanted.to_numpy(zero_copy_only=False))


def _batches(
    file: pq.ParquetFile, group: int, columns: Columns
) -> Iterator[pa.RecordBatch | _Damage]:
    """A row group in batches of about `_BATCH_BYTES`; ends with the damage where there is any."""
    meta = file.metadata.row_group(group)
    batch_rows = max(1, _BATCH_BYTES * meta.num_rows // max(1, meta.total_byte_size))
    batches = file.iter_batches(
        batch_size=min(batch_rows, 1024),
        row_groups=[group],
        columns=columns.names(),
        use_threads=False,
    )
    n_read = 0
    while True:
        try:
            batch = next(batches, None)
        except UNREADABLE as err:
            yield _Damage(meta.num_rows - n_read, f"damaged row group {group}: {err}"[:200])
            return
        if batch is None:
            return
        n_read += batch.num_rows
        yield batch


def _rows(
    batch: pa.RecordBatch,
    columns: Columns,
    shard: Shard,
    first_row: int,
    only: np.ndarray | None = None,
) -> Iterator[RawImage | Reject]:
    """The rows of a batch, or `only` some; image bytes become Python objects one at a time."""
    image, files = image_parts(batch.column(columns.image))
    ids = _ids(batch, columns, shard.name, first_row)
    labels = None
    if columns.label is not None:
        labels = cleaned(batch.column(columns.label), columns.code_book)
    for row in range(batch.num_rows) if only is None else only.tolist():
        image_id = ids[row]
        if image_id is None:
            yield without_id(f"{shard.name}/{first_row + row}", columns.id)
            continue
        label, reason = (None, None) if labels is None else labels.row(row)
        data = image_bytes(image[row], None if files is None else files[row], shard.uri)
        if isinstance(data, str):
            yield Reject(short_id(image_id), "read", data)
        elif len(image_id) > MAX_ID_CHARS:
            yield too_long_id(image_id)
        elif reason is not None:
            yield unreadable_label(image_id, reason)
        else:
            yield RawImage(image_id, data, label, labels and labels.spelling(row))


def image_bytes(scalar: pa.Scalar, file: str | None, table_uri: str) -> bytes | str:
    """Return the bytes of one image, or why there are none.

    file: the name that its row gives, of a file beside the table, for a row without bytes.
    """
    if not scalar.is_valid:
        try:
            return read_beside(table_uri, file) if file else "no image bytes"
        except ValueError as err:
            return str(err)
    n_bytes = scalar.as_buffer().size
    if n_bytes > MAX_IMAGE_BYTES:
        return too_many_bytes(n_bytes, MAX_IMAGE_BYTES)
    return scalar.as_py()
