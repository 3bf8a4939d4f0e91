"""Write the sorted rows of an index as files (parts) and row groups of bounded size."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dcd.tables.rows import with_column
from dcd.tables.vectors import lists_as_blobs

MAX_GROUP_BYTES = 8 * 2**20  # of vectors in a row group: one read of an object store
MIN_GROUP_BYTES = 2**18  # labels smaller than this share a row group
MAX_PART_BYTES = 2**28  # of vectors in a file
RUNS = pa.schema(
    [
        ("label", pa.string()),
        ("list", pa.int32()),
        ("row_group", pa.int32()),
        ("offset", pa.int32()),
        ("n_rows", pa.int32()),
    ]
)

# Vectors hardly compress and are what is read; statistics on labels alone keep the footer small.
WRITING = {
    "compression": {
        "weak_label": "zstd",
        "image_id": "zstd",
        "shard": "zstd",
        "content_hash": "none",
        "embedding": "none",
        "code": "none",
    },
    "use_dictionary": ["weak_label", "shard"],
    "write_statistics": ["weak_label"],
    "write_page_checksum": True,
}


def write_sample(sample: pa.Table, sink: Path | pa.NativeFile) -> None:
    """Write a sample of rows of schemas.clustered as a file, a row group at a time.

    Vectors stand in it as bytes: of a list Parquet counts every number, for ten times as long and
    in four times the memory.
    """
    blobs = lists_as_blobs(sample["embedding"])
    field = pa.field("embedding", blobs.type, nullable=False)
    rows = with_column(sample, "embedding", blobs, field)
    with pq.ParquetWriter(sink, rows.schema, **WRITING) as writer:
        writer.write_table(rows, row_group_size=max(1, MAX_GROUP_BYTES // blobs.type.byte_width))


class Rows(Protocol):
    """Rows of one label and list: real ones (a table), or only their number."""

    @property
    def num_rows(self) -> int: ...


Chunk = TypeVar("Chunk", bound=Rows)


@dataclass(frozen=True)
class Part:
    """A finished local file of clustered rows, and which label's rows are where in it.

    runs: label, list int32 (-1: the label has none), row_group int32, offset int32 (of the first
    row in its row group), n_rows int32.
    """

    path: Path
    runs: pa.Table


def grouped(chunks: Iterator[Chunk], min_rows: int) -> Iterator[list[Chunk]]:
    """Yield chunks that share a row group: a large one has its own, small neighbours are joined."""
    small: list[Chunk] = []
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


def cut_parts(
    groups: Iterator[list[pa.Table]], folder: Path, max_rows: int
) -> Generator[Part, None, None]:
    """Write row groups into files (parts) in `folder`, each of at most `max_rows` rows.

    Whoever takes a part removes its file.
    """
    group = next(groups, None)
    number = 0
    while group is not None:
        path = folder / f"{number}.parquet"
        runs: list[tuple[str, int, int, int, int]] = []
        n_rows = row_group = 0
        written = [name for name in group[0].column_names if name != "list"]
        with pq.ParquetWriter(path, group[0].select(written).schema, **WRITING) as writer:
            while group is not None and (n_rows == 0 or n_rows + _n_rows(group) <= max_rows):
                offset = 0
                for chunk in group:
                    label, of_list = chunk["weak_label"][0].as_py(), chunk["list"][0].as_py()
                    runs.append((label, of_list, row_group, offset, chunk.num_rows))
                    offset += chunk.num_rows
                writer.write_table(pa.concat_tables(group).select(written), row_group_size=offset)
                n_rows += offset
                row_group += 1
                group = next(groups, None)
        yield Part(path, pa.table(list(zip(*runs, strict=True)), schema=RUNS))
        number += 1


def _n_rows(group: list[pa.Table]) -> int:
    return sum(chunk.num_rows for chunk in group)
