"""Find where a label's rows are in an index's files, and read whole row groups, no more."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd.index.parts import RUNS
from dcd.index.quantizers import Codec
from dcd.store import Store
from dcd.store.parquet import ParquetParts
from dcd.store.requests import FOUND, Requests, column_requests, footer_requests
from dcd.tables import schemas
from dcd.tables.rows import with_column
from dcd.tables.vectors import from_blobs, vector_lists

# Which rows of which file hold a label, one row a run.
DIRECTORY = RUNS.append(pa.field("part", pa.string()))


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file, and the row ranges of it that are wanted: (offset, n_rows).

    lists: the list of each range, NO_LIST in labels without lists.
    """

    part: str
    number: int
    ranges: tuple[tuple[int, int], ...]
    lists: tuple[int, ...]

    def rows_of(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(*run) for run in self.ranges])

    def list_of_rows(self) -> np.ndarray:
        """Return the list of every wanted row: (n,) int32."""
        return np.repeat(np.array(self.lists, np.int32), [n for _, n in self.ranges])


def row_groups(directory: pa.Table) -> list[RowGroup]:
    """Return the row groups that hold the rows of a directory, in its order."""
    runs: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
    for run in directory.to_pylist():
        at = (run["part"], run["row_group"])
        runs.setdefault(at, []).append((run["offset"], run["n_rows"], run["list"]))
    return [
        RowGroup(*at, tuple(run[:2] for run in found), tuple(run[2] for run in found))
        for at, found in runs.items()
    ]


class Reader:
    """Row groups of an index's files, with vectors as lists; one file is open at a time."""

    def __init__(self, store: Store, codec: Codec | None = None):
        self._store = store
        self._codec = codec
        self._part: str | None = None
        self._file: ParquetParts | None = None
        self._opened = ExitStack()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """Read the columns of `schemas.clustered` that are asked for."""
        stored = list(columns)
        if self._codec is not None:
            stored = ["code" if name == "embedding" else name for name in columns]
        with self._store.reading(group.part):
            table = self._open(group.part).row_group(group.number, stored)
        if "embedding" not in columns:
            return table.select(stored)
        return self._with_vectors(table).select(list(columns))

    def _with_vectors(self, table: pa.Table) -> pa.Table:
        """With lists of float16 in place of their bytes, or of codes."""
        name = "embedding" if self._codec is None else "code"
        kept = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(kept.type):  # as versions before wrote them
            return table
        if self._codec is None:
            vectors = from_blobs(kept, np.float16, kept.type.byte_width)
        else:
            codes = from_blobs(kept, np.uint8, self._codec.code_bytes)
            vectors = self._codec.decode(codes).astype(np.float16)
        kind = schemas.clustered(vectors.shape[1]).field("embedding")
        lists = vector_lists(vectors, kind.type)
        return with_column(table, name, lists, kind)

    def footer(self, part: str) -> pq.FileMetaData:
        with self._store.reading(part):
            return self._open(part).metadata

    def _open(self, part: str) -> ParquetParts:
        if part != self._part or self._file is None:
            self._opened.close()
            self._part, self._file = (
                part,
                self._opened.enter_context(self._store.open_parquet(part)),
            )
        return self._file


def read_pieces(
    store: Store, directory: pa.Table, columns: Sequence[str], codec: Codec | None = None
) -> Iterator[pa.Table]:
    """Yield the rows that a directory lists, one row group after the other, with their `list`.

    columns: of `schemas.clustered`; no others are read.
    """
    with Reader(store, codec) as reader:
        for group in row_groups(directory):
            rows = group.rows_of(reader.read(group, columns))
            yield rows.append_column("list", pa.array(group.list_of_rows()))


def reading_requests(directory: pa.Table) -> Requests:
    """Count what `read_pieces` sends for these rows: a read for every row group that holds some."""
    n_parts = len(pc.unique(directory["part"]))
    groups = directory.group_by(["part", "row_group"]).aggregate([])
    return (FOUND + footer_requests(0)) * n_parts + column_requests(0) * groups.num_rows
