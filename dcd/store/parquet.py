"""Write and read Parquet so that no damaged byte is taken for a value.

Every page carries its checksum, as Parquet foresees it; `dcd.store.checksums` adds one of the
footer and one of all before it. An object of moderate size is fetched and checked whole; of a
larger one its footer and the pages that are read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dcd.errors import StoreUnavailable
from dcd.store.checksums import (
    ChecksumMismatch,
    check_footer,
    check_parquet,
    compare,
    crc_of,
    data_checksum,
    footer_bytes,
    sealed,
)
from dcd.store.errors import again_if_unread
from dcd.store.requests import WHOLE_BYTES

T = TypeVar("T")
COMPRESSION = "zstd"
_TAIL_BYTES = 2**16  # holds most footers
UNREADABLE = (
    pa.ArrowInvalid,
    pa.ArrowNotImplementedError,
    pa.ArrowTypeError,
    pa.ArrowKeyError,
    UnicodeDecodeError,
)


def as_parquet(table: pa.Table) -> bytes:
    """Return the bytes that `Store.write_table` publishes."""
    return sealed(".parquet", encoded(table))


def encoded(table: pa.Table) -> bytes:
    """Return a table as Parquet, whose pages carry checksums.

    Vectors without a dictionary, which no two of their numbers share: a tenth smaller, and read
    four times as fast.
    """
    sink = pa.BufferOutputStream()
    shared = [field.name for field in table.schema if not pa.types.is_fixed_size_list(field.type)]
    pq.write_table(
        table,
        sink,
        compression=COMPRESSION,
        use_dictionary=shared,  # pyright: ignore[reportArgumentType] - the stub knows bool alone
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def read(source: pa.NativeFile, columns: list[str] | None = None) -> pa.Table:
    """Read a whole object, or some of its columns, in their order.

    Raises ChecksumMismatch or UNREADABLE where it is damaged or has no such columns.
    """
    size = source.size()
    if size <= WHOLE_BYTES:
        data = source.read_at(size, 0)
        check_parquet(data)
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            return _columns(file, columns)
    return _columns(opened(source), columns)


def opened(source: pa.NativeFile) -> pq.ParquetFile:
    """Open an object whose footer is whole; pages are checked as they are read.

    It must not be closed before its source: a column that is still being read ahead needs both.
    """
    footer = pq.read_metadata(pa.BufferReader(_tail(source)))
    return pq.ParquetFile(source, metadata=footer, pre_buffer=True, page_checksum_verification=True)


class ParquetParts:
    """A Parquet object that is read in parts, again where Arrow could not take an answer.

    opened: opens it, anew after such an answer. told: explains what goes wrong while it is read.
    """

    def __init__(
        self, opened: Callable[[], pq.ParquetFile], told: Callable[[], AbstractContextManager[None]]
    ):
        self._opened, self._told = opened, told
        self._file: pq.ParquetFile | None = None
        self.metadata: pq.FileMetaData = self._read(lambda file: file.metadata)

    def row_group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one row group, or some of its columns."""
        names = None if columns is None else list(columns)
        # Arrow's own threads make a read of few, large columns slower (measured: 3 times).
        return self._read(lambda file: file.read_row_group(number, names, use_threads=False))

    def batches(self, max_rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows; of what is read again, what was not yielded before."""
        n_read = 0
        begun: pq.ParquetFile | None = None
        left: Iterator[pa.RecordBatch] = iter(())

        def following(file: pq.ParquetFile) -> pa.RecordBatch | None:
            nonlocal begun, left
            if file is not begun:
                every = file.iter_batches(max_rows, columns=list(columns), use_threads=False)
                begun, left = file, islice(every, n_read, None)
            return next(left, None)

        while (batch := self._read(following)) is not None:
            n_read += 1
            yield batch

    def _read(self, read: Callable[[pq.ParquetFile], T]) -> T:
        def once() -> T:
            try:
                with self._told():
                    if self._file is None:
                        self._file = self._opened()
                    return read(self._file)
            except StoreUnavailable:
                self._file = None  # it keeps what failed as read ahead
                raise

        return again_if_unread(once)


def schema_of(source: pa.NativeFile) -> pa.Schema:
    """Read the schema, with its metadata."""
    return pq.read_schema(pa.BufferReader(_tail(source)))


def check(source: pa.NativeFile) -> bool:
    """Check every byte of an object, a piece at a time; False where it has no checksum.

    One without is decoded instead. Raises ChecksumMismatch or UNREADABLE.
    """
    tail = _tail(source)
    kept = data_checksum(tail)
    if kept is None:
        file = opened(source)
        for group in range(file.num_row_groups):
            file.read_row_group(group)
        return False
    source.seek(0)
    compare(kept, crc_of(source.read, source.size() - footer_bytes(tail)))
    return True


def _tail(source: pa.NativeFile) -> bytes:
    """The end of an object, with its whole footer, which is checked."""
    size = source.size()
    tail = source.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    wanted = footer_bytes(tail)
    if len(tail) < wanted <= size:
        tail = source.read_at(wanted, size - wanted)
    check_footer(tail)
    return tail


def _columns(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    if columns is None:
        table = file.read()
    else:
        missing = sorted(set(columns) - set(file.schema_arrow.names))
        if missing:
            raise ChecksumMismatch(
                f"has no column {', '.join(missing)}, but {', '.join(file.schema_arrow.names)}"
            )
        table = file.read(columns).select(columns)
    if table.num_rows != file.metadata.num_rows:
        raise ChecksumMismatch(f"{table.num_rows} rows, {file.metadata.num_rows} announced")
    return table
