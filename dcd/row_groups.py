"""Where a label's rows are in an index's files, and reading them: whole row groups, no more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from dcd.clustering import RUNS
from dcd.store import Store
from dcd.store_errors import explained

# Which rows of which file hold a label, one row a run.
DIRECTORY = RUNS.append(pa.field("part", pa.string()))


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file, and the row ranges of it that are wanted: (offset, n_rows)."""

    part: str
    number: int
    ranges: tuple[tuple[int, int], ...]

    def rows_of(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(*run) for run in self.ranges])


def row_groups(directory: pa.Table) -> list[RowGroup]:
    """The row groups that hold the rows of a directory, in its order."""
    ranges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for run in directory.to_pylist():
        at = (run["part"], run["row_group"])
        ranges.setdefault(at, []).append((run["offset"], run["n_rows"]))
    return [RowGroup(*at, tuple(runs)) for at, runs in ranges.items()]


class Reader:
    """Row groups of an index's files; one file is open at a time."""

    def __init__(self, store: Store):
        self._store = store
        self._part: str | None = None
        self._file: pq.ParquetFile | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close(force=True)

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        with explained(self._store.uri(group.part), "read"):
            # Arrow's own threads make a read of few, large columns slower (measured: 3 times).
            file = self._open(group.part)
            return file.read_row_group(group.number, list(columns), use_threads=False)

    def footer(self, part: str) -> pq.FileMetaData:
        with explained(self._store.uri(part), "read"):
            return self._open(part).metadata

    def _open(self, part: str) -> pq.ParquetFile:
        if part != self._part or self._file is None:
            self.__exit__()
            source = self._store.arrow().open_input_file(self._store.path(part))
            self._part, self._file = part, pq.ParquetFile(source, pre_buffer=True)
        return self._file


def read_pieces(store: Store, directory: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows that a directory lists, one row group after the other, and only their columns.

    columns: of `schemas.clustered`.
    """
    with Reader(store) as reader:
        for group in row_groups(directory):
            yield group.rows_of(reader.read(group, columns))


def touched_bytes(store: Store, directory: pa.Table, columns: Sequence[str]) -> int:
    """What the rows of a directory take in the files, compressed, in these columns.

    A row of a row group has an equal share of it.
    """
    total = 0.0
    with Reader(store) as reader:
        for group in row_groups(directory):
            footer = reader.footer(group.part).row_group(group.number)
            chunks = (footer.column(n) for n in range(footer.num_columns))
            size = sum(
                chunk.total_compressed_size
                for chunk in chunks
                if chunk.path_in_schema.partition(".")[0] in columns
            )
            total += size * sum(n for _, n in group.ranges) / footer.num_rows
    return round(total)
