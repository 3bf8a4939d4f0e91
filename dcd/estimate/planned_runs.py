"""Place the rows of an index by the sizes of its labels alone: no row is looked at.

The same rules by which `dcd.index.sort` cuts real rows: pieces of one label and list, small
neighbours joined in a row group, files of bounded size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from dcd.index.parts import MAX_GROUP_BYTES, MAX_PART_BYTES, MIN_GROUP_BYTES, grouped
from dcd.index.row_groups import DIRECTORY
from dcd.store import keys


@dataclass(frozen=True)
class _Piece:
    label: str
    number: int
    num_rows: int


def planned_runs(counts: Mapping[tuple[str, int], int], stored_bytes: int, prefix: str) -> pa.Table:
    """Return the directory (`labels.parquet`) of an index whose rows are all written at once.

    counts: rows by label and list. stored_bytes: of a vector. prefix: key of the index.
    """
    part_rows = max(1, MAX_PART_BYTES // stored_bytes)
    runs: dict[str, list[object]] = {name: [] for name in DIRECTORY.names}
    part = row_group = n_in_part = 0
    pieces = _pieces(counts, max(1, MAX_GROUP_BYTES // stored_bytes))
    min_rows = max(1, MIN_GROUP_BYTES // stored_bytes)
    for group in grouped(pieces, min_rows):
        n_rows = sum(piece.num_rows for piece in group)
        if n_in_part and n_in_part + n_rows > part_rows:
            part, row_group, n_in_part = part + 1, 0, 0
        offset = 0
        for piece in group:
            key = keys.index_vectors(prefix, part)
            run = (piece.label, piece.number, row_group, offset, piece.num_rows, key)
            for name, value in zip(DIRECTORY.names, run, strict=True):
                runs[name].append(value)
            offset += piece.num_rows
        n_in_part += n_rows
        row_group += 1
    return pa.table(runs, schema=DIRECTORY)


def _pieces(counts: Mapping[tuple[str, int], int], max_rows: int) -> Iterator[_Piece]:
    for (label, number), n_rows in sorted(counts.items()):
        for start in range(0, n_rows, max_rows):
            yield _Piece(label, number, min(max_rows, n_rows - start))
