"""Tables of ids and labels that users bring: Parquet, or text with one row a line.

Nothing is guessed from values: every column of a text table is text, so that 007 stays 007. What a
file is, is told by its first bytes; between .csv and .tsv the name decides, unless the header has
another separator alone.
"""

import csv
import io
import lzma
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dcd.errors import DataError, LabelError, ObjectNotFound
from dcd.sources.objects import open_object, unpacked
from dcd.tables.labels import Names, code_book
from dcd.tables.text_header import SEPARATORS, encoding_of, text_header, torn_quote

_TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t"}
_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
TEXT_TABLES = tuple(
    suffix + packed for suffix in _TEXT_SUFFIXES for packed in ("", *_COMPRESSED_SUFFIXES)
)
PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_MAX_HEADER_BYTES = 2**20
_LATE_QUOTE = r"""^\s+"(?:[^"]|"")*"\s*$"""
_READ_BYTES = 8 * 2**20
# A packed table that grows further than this, and by more than that factor, is no list of labels:
# ids and labels are packed to a tenth, sometimes to a hundredth.
_ALWAYS_UNPACKED_BYTES, _MOST_GROWTH = 64 * 2**20, 200
_UNREADABLE = (
    pa.ArrowException,
    OSError,
    EOFError,
    UnicodeError,
    csv.Error,
    zlib.error,
    lzma.LZMAError,
)
READS = "Parquet, .csv or .tsv, the last two also as .gz, .bz2, .xz or .zst"


@dataclass(frozen=True)
class TableFile:
    """A table by its header. `separator` is None in Parquet, where columns have types.

    n_skipped: lines of text up to the first row. encoding: of text. note: what was guessed.
    """

    uri: str
    place: str
    schema: pa.Schema
    separator: str | None = None
    n_skipped: int = 0
    encoding: str = "utf-8"
    note: str | None = None

    @property
    def names(self) -> list[str]:
        return self.schema.names

    def code_book(self, column: str) -> Names | None:
        """Return the names of the codes that a column of whole numbers holds; None without any."""
        return code_book(self.schema, column) if column in self.names else None

    def read(self, columns: Collection[str]) -> pa.Table:
        """Read these columns, no others: views and large types as plain ones.

        Raises LabelError if another column has the same name but for case, DataError if the file
        is damaged.
        """
        refuse_look_alikes(self.names, columns, _at(self.place, self.uri))
        wanted = [name for name in self.names if name in columns]
        with _explained(self.uri, self.place, self.separator is not None):
            if self.separator is None:
                table = pq.ParquetFile(open_object(self.uri)).read(wanted)
            else:
                with _text(self.uri) as (stream, seen):
                    table = pacsv.read_csv(stream, **self._options(wanted))
                self._refuse_torn_quotes(table.num_rows, seen)
        if self.separator is not None:
            self._refuse_late_quotes(table)
        return table.select(wanted)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all columns, a few thousand rows at a time. Raises as `read`."""
        with _explained(self.uri, self.place, self.separator is not None):
            if self.separator is None:
                yield from pq.ParquetFile(open_object(self.uri)).iter_batches(use_threads=False)
                return
            n_rows = 0
            with _text(self.uri) as (stream, seen):
                for batch in pacsv.open_csv(stream, **self._options(self.names)):
                    self._refuse_late_quotes(batch)
                    n_rows += batch.num_rows
                    yield batch
            self._refuse_torn_quotes(n_rows, seen)

    def _refuse_torn_quotes(self, n_rows: int, seen: "_Seen") -> None:
        """Raise DataError where a quote made one value of several rows.

        Only a table that has more lines than rows, and quotes, is looked at a second time.
        """
        assert self.separator is not None
        if not seen.n_quotes or seen.n_line_ends <= self.n_skipped + n_rows:
            return
        with _text(self.uri) as (stream, _):
            lines = io.TextIOWrapper(stream, self.encoding, errors="replace", newline="")
            below = islice(lines, self.n_skipped, None)
            torn = torn_quote(below, self.separator, self.n_skipped)
            lines.detach()
        if torn is not None:
            raise DataError(f"{_at(self.place, self.uri)}: {torn}")

    def _refuse_late_quotes(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Raises DataError for a quote behind a space, which opens no quoted field."""
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            late = pc.match_substring_regex(column, _LATE_QUOTE)
            if pc.any(late, min_count=0).as_py():
                found = column.filter(late)
                raise DataError(
                    f"{_at(self.place, self.uri)}: {len(found):,} values of column {name!r}, such "
                    f"as {found[0].as_py()!r}, have a space before the quote, which makes the "
                    "quotes part of the value; remove the space"
                )

    def _options(self, columns: Sequence[str]) -> dict[str, object]:
        return {
            "read_options": pacsv.ReadOptions(
                column_names=self.names, skip_rows=self.n_skipped, encoding=self.encoding
            ),
            "parse_options": pacsv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            "convert_options": pacsv.ConvertOptions(
                column_types=dict.fromkeys(self.names, pa.string()),
                include_columns=list(columns),
                null_values=[],
                strings_can_be_null=False,
            ),
        }


def open_table(uri: str, place: str) -> TableFile:
    """Look at the header of a table. Raises DataError naming `place` and the URI."""
    text_separator = _by_name(uri)
    with _explained(uri, place, text_separator is not None):
        with io.BufferedReader(open_object(uri), 2**16) as raw:
            start = raw.peek(4)[:4]
        if start == b"PK\3\4":
            raise DataError(
                f"{_at(place, uri)}: is a ZIP file, as Excel's workbooks are; expected a table: "
                f"{READS}"
            )
        if text_separator is None and start != b"PAR1" and not _is_parquet_name(uri):
            raise DataError(
                f"{_at(place, uri)}: is no Parquet file by its first bytes, and no text table by "
                f"its name; expected a table: {READS}; rename it if it is one of them"
            )
        if start == b"PAR1" or text_separator is None:
            return TableFile(uri, place, pq.ParquetFile(open_object(uri)).schema_arrow)
        return _text_table(uri, place, text_separator)


def refuse_look_alikes(names: Sequence[str], asked: Collection[str], what: str) -> None:
    """Raise LabelError if a column that is asked for has a twin: the same name but for case."""
    for name in sorted(set(asked)):
        twins = [other for other in names if other.casefold() == name.casefold()]
        if len(twins) > 1:
            raise LabelError(
                f"{what} has the columns {twins}, whose names differ in case alone or not at all; "
                "remove or rename all but one"
            )


def _by_name(uri: str) -> str | None:
    """The separator that the name of a text table tells; None: no text table by its name."""
    name = uri.lower()
    for suffix in _COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return next((sep for suffix, sep in _TEXT_SUFFIXES.items() if name.endswith(suffix)), None)


def _is_parquet_name(uri: str) -> bool:
    return uri.lower().endswith(PARQUET_SUFFIXES)


def _text_table(uri: str, place: str, separator: str) -> TableFile:
    with _text(uri) as (stream, _):
        encoding = encoding_of(stream.peek(2))
        lines = io.TextIOWrapper(
            io.BytesIO(stream.read(_MAX_HEADER_BYTES)), encoding, errors="replace"
        )
        try:
            header = text_header(lines, separator)
        except ValueError as err:
            raise DataError(f"{_at(place, uri)}: {err}") from err
    if header is None:
        raise DataError(f"{_at(place, uri)}: is empty; expected a line of column names")
    note = None
    if header.is_guess:
        called = SEPARATORS.get(header.separator, repr(header.separator))
        note = f"{uri} has a {called} between its columns, and is read so"
    schema = pa.schema([pa.field(name, pa.string()) for name in header.names])
    return TableFile(uri, place, schema, header.separator, header.n_lines, encoding, note)


@dataclass
class _Seen:
    """What went by of a text table: bytes that are line ends and quotes in UTF-8."""

    n_line_ends: int = 0
    n_quotes: int = 0


@contextmanager
def _text(uri: str) -> "Iterator[tuple[io.BufferedReader[Any], _Seen]]":
    """The bytes of a text table, unpacked as their beginning tells, and what went by of them."""
    raw = io.BufferedReader(open_object(uri), _READ_BYTES)
    stream = unpacked(raw)
    seen = _Seen()
    with raw, stream:
        packed = None if stream is raw else raw
        yield io.BufferedReader(_Watched(stream, packed, seen), _READ_BYTES), seen


class _Watched(io.RawIOBase):
    """The unpacked bytes of a table, up to a bound: a few bytes of a file can stand for a disk."""

    def __init__(
        self,
        stream: "io.BufferedReader[Any]",
        packed: "io.BufferedReader[Any] | None",
        seen: _Seen,
    ):
        self._stream, self._packed, self._seen, self._n_bytes = stream, packed, seen, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read = self._stream.readinto(buffer)
        data = bytes(memoryview(buffer)[:n_read])
        self._seen.n_line_ends += data.count(b"\n")
        self._seen.n_quotes += data.count(b'"')
        self._n_bytes += n_read
        if self._packed is None:
            return n_read
        most = max(_ALWAYS_UNPACKED_BYTES, _MOST_GROWTH * self._packed.tell())
        if self._n_bytes > most:
            raise OSError(
                f"{self._packed.tell():,} packed bytes grew to more than {most:,}; unpack it "
                "yourself if it is what it should be"
            )
        return n_read


@contextmanager
def _explained(uri: str, place: str, is_text: bool) -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as err:
        raise DataError(f"{_at(place, uri)}: no such file; expected a table: {READS}") from err
    except _UNREADABLE as err:
        form = "text" if is_text else "Parquet"
        hint = "; save it as UTF-8" if "UTF8" in str(err) or isinstance(err, UnicodeError) else ""
        if "Expected" in str(err) and "columns" in str(err):
            hint = "; give every row as many values as the header, those with a separator in quotes"
        raise DataError(
            f"{_at(place, uri)}: cannot be read as a {form} table: {err}{hint} (tables are {READS})"
        ) from err


def _at(place: str, uri: str) -> str:
    return place if uri in place else f"{place}: {uri}"
