"""What a Parquet footer says of chunks is what pyarrow says, and no footer ends the process."""

import io
import random
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import PoolConfig
from dcd.estimate.parquet_cost import reading_cost
from dcd.sources.parquet import UNREADABLE, Footer, read_footer
from dcd.tables.parquet_footer import Chunk, chunks_of, read_footer_of

WRITERS = {
    "plain": {},
    "2.6, no dictionary": {"use_dictionary": False, "version": "2.6"},
    "without statistics": {"write_statistics": False},
    "page index": {"write_page_index": True, "data_page_version": "2.0"},
    "bare": {"store_schema": False, "compression": "none"},
}


def table(n_rows: int = 300) -> pa.Table:
    images = [None if n % 7 == 0 else bytes([n % 256]) * 40 for n in range(n_rows)]
    structs = [{"bytes": image, "path": f"{n}.png"} for n, image in enumerate(images)]
    return pa.table(
        {
            "image_id": [f"i{n}" for n in range(n_rows)],
            "image": images,
            "other": pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "flags": [[n % 2 == 0] * (n % 3) for n in range(n_rows)],
            "x": [n / 3 for n in range(n_rows)],
        }
    )


@pytest.mark.parametrize("how", WRITERS)
def test_it_is_what_pyarrow_says(tmp_path: Path, how: str):
    path = tmp_path / "a.parquet"
    pq.write_table(table(), path, row_group_size=100, **WRITERS[how])  # pyright: ignore
    metadata, groups = read_footer_of(io.FileIO(path))
    assert metadata.num_row_groups == len(groups) == 3
    for number, chunks in enumerate(groups):
        group = metadata.row_group(number)
        columns = [group.column(n) for n in range(group.num_columns)]
        assert chunks == {
            column.path_in_schema: Chunk(
                column.num_values,
                column.total_compressed_size,
                column.statistics.null_count if column.is_stats_set else None,
                column.data_page_offset,
                column.dictionary_page_offset if column.has_dictionary_page else None,
            )
            for column in columns
        }


def test_a_footer_that_is_longer_than_the_first_read(tmp_path: Path):
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"column {n}": [n] for n in range(2000)}), path)
    metadata, (chunks,) = read_footer_of(io.FileIO(path))
    assert metadata.serialized_size > 2**16
    assert len(chunks) == 2000


def test_no_changed_byte_of_a_footer_ends_the_process(tmp_path: Path):
    """pyarrow's own metadata aborts for some: `Repetition level histogram size mismatch`."""
    path, pool = tmp_path / "a.parquet", PoolConfig(images="nowhere", label_column="x")
    pq.write_table(table(20), path)
    whole = path.read_bytes()
    (n_footer,) = struct.unpack("<I", whole[-8:-4])
    rng = random.Random(0)
    n_refused = 0
    for _ in range(3000):
        at = len(whole) - 9 - rng.randrange(n_footer)
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
        )
        found = read_footer(str(path), pool)
        n_refused += found == Footer()
    assert n_refused > 0
    path.write_bytes(whole)
    assert read_footer(str(path), pool).n_without_bytes == 3
    assert reading_cost(str(path), pool).n_bytes > 0


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\x49",
        b"\x4c\x00",  # row groups that are no list
        b"\x49\x1c\x00\x00",  # a row group without chunks
        b"\x49\xfc\xff\xff\xff\xff\x0f",  # more of them than bytes
        b"\x1c" * 99,
        b"\x19" * 99,
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x1e\x00",
    ],
)
def test_what_is_no_footer_is_refused(footer: bytes):
    with pytest.raises(UNREADABLE):
        chunks_of(footer)
