"""What the rows of some labels take in an index: beside what a search for them reads."""

from collections.abc import Sequence

import pyarrow as pa

from dcd.index.row_groups import Reader, row_groups
from dcd.store import Store


def touched_bytes(store: Store, directory: pa.Table, columns: Sequence[str]) -> int:
    """Return what the rows of a directory take in the files, compressed, in these columns.

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
                if chunk.path_in_schema.partition(".")[0].replace("code", "embedding") in columns
            )
            total += size * sum(n for _, n in group.ranges) / footer.num_rows
    return round(total)
