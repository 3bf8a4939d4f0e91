"""Parquet files with a column of encoded images, read row group by row group."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.objects import OPENED, open_object
from dcd.sources.records import (
    LABEL_COLUMNS,
    MAX_ID_CHARS,
    MAX_IMAGE_BYTES,
    ListedImage,
    RawImage,
    Reject,
    Shard,
    label_text,
    short_id,
)
from dcd.store.requests import Requests, footer_requests, total

# The name that img2dataset gives its image column is the format it encoded to.
_OTHER_IMAGE_COLUMNS = ("jpg", "png", "webp")
_DEFAULT_IMAGE = DataConfig.model_fields["image_column"].default
_DEFAULT_ID = DataConfig.model_fields["id_column"].default
_BATCH_BYTES = 32 * 2**20
_READ_BYTES = 4 * 2**20
_PAGE_ROWS, _PAGE_BYTES = 1024, 2**20
LOOKED_INTO = OPENED + footer_requests(0)  # `open_parquet` on S3, as `count_rows` does it
_UNREADABLE = (pa.ArrowException, OSError)  # Arrow reports damaged files as either


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; `id` and `label` are None where there is no such column."""

    image: str
    id: str | None
    label: str | None

    def names(self) -> list[str]:
        return [name for name in (self.image, self.id, self.label) if name]


@dataclass(frozen=True)
class ReadCost:
    """What `read_parquet` fetches: bytes of the columns it needs, and requests where it is S3."""

    n_bytes: int
    requests: Requests


@dataclass(frozen=True)
class _Damage:
    """`n_rows` rows that could not be read."""

    n_rows: int
    reason: str


def open_parquet(uri: str) -> pq.ParquetFile:
    """Raises an `_UNREADABLE` error if the footer is damaged, StoreError if the store fails."""
    return pq.ParquetFile(open_object(uri), pre_buffer=False, buffer_size=_READ_BYTES)


def count_rows(uri: str) -> int | None:
    """Rows by the footer; None if the file is damaged."""
    try:
        return open_parquet(uri).metadata.num_rows
    except _UNREADABLE:
        return None


def read_parquet(shard: Shard, data: DataConfig) -> Iterator[RawImage | Reject]:
    """The images of a Parquet file in row order. A damaged row group costs only its rows.

    Raises DataError if the columns are not there.
    """
    try:
        file = open_parquet(shard.uri)
    except _UNREADABLE as err:
        yield Reject(shard.name, "read", f"not a readable Parquet file: {err}"[:200])
        return
    columns = _columns(file.schema_arrow, data, shard.uri)
    first_row = 0
    for group in range(file.num_row_groups):
        row = first_row
        for batch in _batches(file, group, columns):
            if isinstance(batch, _Damage):
                for lost in range(row, row + batch.n_rows):
                    yield Reject(f"{shard.name}/{lost}", "read", batch.reason)
            else:
                yield from _rows(batch, columns, shard.name, row)
                row += batch.num_rows
        first_row += file.metadata.row_group(group).num_rows


def reading_cost(uri: str, data: DataConfig) -> ReadCost:
    """What `read_parquet` will fetch of a file, by its footer.

    Raises DataError if the columns are not there, StoreError if the store fails.
    """
    try:
        file = open_parquet(uri)
    except _UNREADABLE:
        return ReadCost(0, LOOKED_INTO)
    names = set(_columns(file.schema_arrow, data, uri).names())
    groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
    every = (group.column(n) for group in groups for n in range(group.num_columns))
    chunks = [chunk for chunk in every if chunk.path_in_schema.partition(".")[0] in names]
    footer_bytes = file.metadata.serialized_size
    reads = Requests(n_get=sum(_reads(_pages(chunk)) for chunk in chunks))
    return ReadCost(
        sum(chunk.total_compressed_size for chunk in chunks) + footer_bytes,
        total([OPENED, footer_requests(footer_bytes), reads]),
    )


def _pages(chunk: pq.ColumnChunkMetaData) -> list[int]:
    """Bytes of the pages of a column in a row group, as Arrow writes them.

    The footer knows the dictionary's page alone. The others end where a batch of 1,024 rows, of
    large images many megabytes, goes beyond 1 MiB.
    """
    size, pages = chunk.total_compressed_size, []
    if chunk.has_dictionary_page:
        pages.append(max(0, chunk.data_page_offset - chunk.dictionary_page_offset))
    left = size - sum(pages)
    by_batch = size * _PAGE_ROWS // max(1, chunk.num_values)
    page = max(_PAGE_BYTES, by_batch)
    return [*pages, *[page] * (left // page), left % page]


def _reads(pages: list[int]) -> int:
    """Reads of Arrow's buffered stream: a page's header fills the buffer, a long page passes it."""
    n_reads, buffered, left = 0, 0, sum(pages)
    for page in pages:
        if page and not buffered:
            n_reads, buffered = n_reads + 1, min(_READ_BYTES, left)
        if page > buffered:
            n_reads += 1
            missing = page - buffered
            buffered = page if missing >= _READ_BYTES else min(buffered + _READ_BYTES, left)
        buffered, left = buffered - page, left - page
    return n_reads


def fetch_parquet(shard: Shard, data: DataConfig, wanted: frozenset[str]) -> Iterator[RawImage]:
    """Only the wanted images: ids are read first, then the row groups that hold them."""
    file = open_parquet(shard.uri)
    columns = _columns(file.schema_arrow, data, shard.uri)
    first_row = 0
    for group in range(file.num_row_groups):
        n_rows = file.metadata.row_group(group).num_rows
        rows = first_row + _wanted_rows(file, group, columns, shard.name, first_row, wanted)
        row = first_row
        for batch in _batches(file, group, columns) if rows.size else ():
            if isinstance(batch, _Damage) or row > rows[-1]:
                break
            here = rows[(rows >= row) & (rows < row + batch.num_rows)] - row
            for image in _rows(batch, columns, shard.name, row, here) if here.size else ():
                if isinstance(image, RawImage):
                    yield image
            row += batch.num_rows
        first_row += n_rows


def list_parquet(shard: Shard, data: DataConfig) -> Iterator[ListedImage]:
    """What `read_parquet` would read, from the id and label columns alone.

    Stops at damage. Raises DataError if the columns are not there.
    """
    with suppress(*_UNREADABLE):
        file = open_parquet(shard.uri)
        columns = _columns(file.schema_arrow, data, shard.uri)
        row = 0
        for batch in file.iter_batches(columns=[*filter(None, (columns.id, columns.label))]):
            ids = (
                batch.column(columns.id).to_pylist() if columns.id else range(row, row + len(batch))
            )
            labels = (
                batch.column(columns.label).to_pylist() if columns.label else [None] * len(batch)
            )
            row += len(batch)
            for value, label in zip(ids, labels, strict=True):
                image_id = _id_text(value) if columns.id else f"{shard.name}/{value}"
                with suppress(ValueError):  # unreadable labels become rejects when they are read
                    if value is not None:
                        yield ListedImage(image_id, label_text(label))


def _wanted_rows(
    file: pq.ParquetFile,
    group: int,
    columns: _Columns,
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
        ids = _id_texts(column)
    is_wanted = pc.is_in(ids, value_set=pa.array(list(wanted), pa.string()))
    return np.flatnonzero(is_wanted.to_numpy(zero_copy_only=False))


def _id_texts(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """All ids as `_id_text` gives them; null where there is none."""
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.string())
    values = column.to_pylist()
    return pa.array([None if value is None else _id_text(value) for value in values], pa.string())


def _columns(schema: pa.Schema, data: DataConfig, uri: str) -> _Columns:
    names = set(schema.names)
    image = data.image_column
    if image not in names and image == _DEFAULT_IMAGE:
        image = next((name for name in _OTHER_IMAGE_COLUMNS if name in names), image)
    if image not in names:
        raise DataError(
            f"{uri}: has no image column {data.image_column!r}; found {schema.names}; "
            "name the column of image bytes as image_column"
        )
    if not _holds_bytes(schema.field(image).type):
        raise DataError(
            f"{uri}: column {image!r} is {schema.field(image).type}, expected binary or "
            "struct<bytes: binary, path: string>; name the column of image bytes as image_column"
        )
    if data.id_column not in names and data.id_column != _DEFAULT_ID:
        raise DataError(f"{uri}: has no id column {data.id_column!r}; found {schema.names}")
    labels = (data.label_column,) if data.label_column else LABEL_COLUMNS
    return _Columns(
        image=image,
        id=data.id_column if data.id_column in names else None,
        label=next((name for name in labels if name in names), None),
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in is_binary)


def _batches(
    file: pq.ParquetFile, group: int, columns: _Columns
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
        except _UNREADABLE as err:
            yield _Damage(meta.num_rows - n_read, f"damaged row group {group}: {err}"[:200])
            return
        if batch is None:
            return
        n_read += batch.num_rows
        yield batch


def _rows(
    batch: pa.RecordBatch,
    columns: _Columns,
    shard: str,
    first_row: int,
    only: np.ndarray | None = None,
) -> Iterator[RawImage | Reject]:
    """The rows of a batch, or `only` some; image bytes become Python objects one at a time."""
    image = batch.column(columns.image)
    if pa.types.is_struct(image.type):
        # `field` ignores the struct's own validity; a null struct has null bytes all the same.
        image = image.field("bytes")
    offsets = range(batch.num_rows) if only is None else only.tolist()
    ids, labels = (_values(batch, name, only) for name in (columns.id, columns.label))
    for offset, value, label in zip(offsets, ids, labels, strict=True):
        by_row = f"{shard}/{first_row + offset}"
        if columns.id and value is None:
            yield Reject(by_row, "read", f"no id in column {columns.id!r}")
            continue
        image_id = by_row if value is None else _id_text(value)
        yield _image(image_id, image[offset], label)


def _values(batch: pa.RecordBatch, name: str | None, only: np.ndarray | None) -> list[object]:
    """A column as Python values, or `only` some rows of it; None each if there is no column."""
    if name is None:
        return [None] * (batch.num_rows if only is None else only.size)
    column = batch.column(name)
    # One by one, because Arrow cannot take rows of every type.
    return column.to_pylist() if only is None else [column[n].as_py() for n in only.tolist()]


def _image(image_id: str, scalar: pa.Scalar, label: object) -> RawImage | Reject:
    if not scalar.is_valid:
        return Reject(short_id(image_id), "read", "no image bytes")
    if len(image_id) > MAX_ID_CHARS:
        return Reject(short_id(image_id), "read", f"its id has {len(image_id)} characters")
    n_bytes = scalar.as_buffer().size
    if n_bytes > MAX_IMAGE_BYTES:
        return Reject(image_id, "read", f"{n_bytes} bytes, at most {MAX_IMAGE_BYTES} allowed")
    try:
        return RawImage(image_id, scalar.as_py(), label_text(label))
    except ValueError as err:
        return Reject(image_id, "label", f"unreadable label: {err}"[:200])


def _id_text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
