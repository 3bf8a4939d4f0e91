"""Read from a Parquet footer what pyarrow tells only at the risk of the process.

`FileMetaData.row_group(n).column(m)` meets C++ exceptions that pyarrow (26) lets through: of a file
with a few bytes changed in its footer it aborts the interpreter. Reading rows is safe, opening too.
So what chunks of columns say of themselves is read here: Thrift's compact protocol, as
https://parquet.apache.org/docs/file-format/metadata/ lays it out.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_TAIL_BYTES = 2**16  # as many as Arrow reads first
_END = 8  # bytes: the footer's length and the magic number
_MAX_DEPTH = 32
_MAX_VARINT_BYTES = 10

# Fields by their numbers in parquet.thrift.
_ROW_GROUPS, _CHUNKS, _OF_COLUMN, _PATH = 4, 1, 3, 3
_N_VALUES, _N_BYTES, _DATA_PAGE, _DICTIONARY_PAGE, _STATISTICS, _N_NULLS = 5, 7, 9, 11, 12, 3


@dataclass(frozen=True)
class Chunk:
    """A column's part of a row group, as the footer describes it.

    n_bytes: as stored. n_nulls, dictionary_page_offset: None where the footer does not say.
    """

    n_values: int
    n_bytes: int
    n_nulls: int | None
    data_page_offset: int
    dictionary_page_offset: int | None


Chunks = Mapping[str, Chunk]  # of a row group, by the path of the column


def read_footer_of(source: io.RawIOBase) -> tuple[pq.FileMetaData, list[Chunks]]:
    """Read the footer of a file: as pyarrow opens it, and the chunks of each row group.

    Sends what Arrow does. Raises ArrowInvalid, OSError or UnicodeDecodeError where it is damaged.
    """
    size = source.seek(0, io.SEEK_END)
    tail = _last(source, min(size, _TAIL_BYTES))
    n_bytes = int.from_bytes(tail[-_END:-4], "little") + _END
    if len(tail) < n_bytes <= size:
        tail = _last(source, n_bytes)
    metadata = pq.read_metadata(pa.BufferReader(tail))
    return metadata, chunks_of(tail[-n_bytes:-_END])


def _last(source: io.RawIOBase, n_bytes: int) -> bytes:
    source.seek(-n_bytes, io.SEEK_END)
    return source.read(n_bytes) or b""


def chunks_of(footer: bytes) -> list[Chunks]:
    """Return the chunks of each row group. Raises ArrowInvalid for what is no footer."""
    try:
        groups = _Compact(footer).struct(0).get(_ROW_GROUPS, [])
        return [dict(map(_chunk, group[_CHUNKS])) for group in groups]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as err:
        raise pa.ArrowInvalid(f"Parquet footer: {err!r}") from err


def _chunk(found: Mapping[int, Any]) -> tuple[str, Chunk]:
    column = found[_OF_COLUMN]
    n_values, n_nulls = column[_N_VALUES], column.get(_STATISTICS, {}).get(_N_NULLS)
    if n_nulls is not None and not 0 <= n_nulls <= n_values:
        n_nulls = None
    path = ".".join(part.decode() for part in column[_PATH])
    return path, Chunk(
        n_values, column[_N_BYTES], n_nulls, column[_DATA_PAGE], column.get(_DICTIONARY_PAGE)
    )


class _Compact:
    """A reader of Thrift's compact protocol: structs by the numbers of their fields."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            number = number + delta if delta else self._signed()
            # The kind of a truth value is the value.
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(depth)
            case 11:
                return self._map(depth)
            case 12:
                return self.struct(depth + 1)
            case _:
                raise ValueError(f"a value of kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        n, kind = head >> 4, head & 15
        n = self._varint() if n == 15 else n
        self._check_left(n)
        return [self._value(kind, depth + 1) for _ in range(n)]

    def _map(self, depth: int) -> None:
        """No field that is asked for is one."""
        n = self._varint()
        self._check_left(n)
        kinds = self._byte() if n else 0
        for _ in range(n):
            self._value(kinds >> 4, depth + 1)
            self._value(kinds & 15, depth + 1)

    def _check_left(self, n: int) -> None:
        """Each of n values takes a byte at least."""
        if n > len(self._data) - self._at:
            raise ValueError(f"{n} values in {len(self._data) - self._at} bytes")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, n: int) -> bytes:
        self._check_left(n)
        self._at += n
        return self._data[self._at - n : self._at]

    def _varint(self) -> int:
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                return value
        raise ValueError("a number that does not end")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
