"""Make more rows like those of a sample, to see what a table of them would take as Parquet.

A few rows compress otherwise than many. So rows are imagined up to the number of the table, or to a
bound beyond which each takes as much as the one before.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from dcd.store.parquet import as_parquet
from dcd.tables import schemas
from dcd.tables.vectors import vector_lists

_MAX_VECTOR_BYTES = 2**23
_NOISY_BITS = 6  # of the ten of a float16's fraction: two images never agree in the last ones
_WORD = np.isin(np.arange(256), [*b"0123456789abcdefghijklmnopqrstuvwxyz"])


def table_bytes(
    rows: pa.Table, n_rows: int, encode: Callable[[pa.Table], bytes] = as_parquet
) -> int:
    """Return what `n_rows` rows like these take, published as a table.

    rows: at least one, with image_id, weak_label, content_hash, embedding, and perhaps shard.
    encode: to the bytes of a file.
    """
    by_label = [("weak_label", "ascending"), ("image_id", "ascending")]
    n = min(n_rows, max(2, _MAX_VECTOR_BYTES // (2 * _dim(rows))))
    if n == n_rows or n_rows <= rows.num_rows:
        return len(encode(imagined(rows, n_rows).sort_by(by_label)))
    whole, half = (len(encode(imagined(rows, size).sort_by(by_label))) for size in (n, n // 2))
    return whole + (whole - half) * (n_rows - n) // (n - n // 2)


def imagined(rows: pa.Table, n_rows: int) -> pa.Table:
    """Make `n_rows` rows like these, those themselves first. Labels and shards recur as often.

    Numbers of vectors are those that others have in the same place, with other last bits; so are
    the digits and letters of ids. Content hashes are random.
    """
    if n_rows <= rows.num_rows:
        return rows.take(np.linspace(0, rows.num_rows - 1, n_rows).astype(int))
    rng = np.random.default_rng(0)
    copies = np.arange(n_rows - rows.num_rows) % rows.num_rows
    more = rows.take(copies)
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        schemas.CONTENT_HASH, len(copies), [None, pa.py_buffer(rng.bytes(16 * len(copies)))]
    )
    columns = {name: more[name] for name in rows.column_names}
    columns["content_hash"] = hashes
    columns["image_id"] = _ids_like(rows["image_id"], copies, rng)
    columns["embedding"] = _vectors_like(rows, len(copies), rng)
    return pa.concat_tables([rows, pa.table(columns, schema=rows.schema)]).combine_chunks()


def _ids_like(ids: pa.ChunkedArray, copies: np.ndarray, rng: np.random.Generator) -> pa.Array:
    texts = np.array([text.encode() for text in ids.to_pylist()])
    grid = texts.view(np.uint8).reshape(len(texts), -1)
    mine = grid[copies]
    others = grid[rng.integers(0, len(grid), mine.shape), np.arange(grid.shape[1])]
    changed = np.where(_WORD[mine] & _WORD[others], others, mine)
    made = np.ascontiguousarray(changed).view(texts.dtype)[:, 0]
    return pa.array([text.decode() for text in made.tolist()], pa.string())


def _vectors_like(rows: pa.Table, n: int, rng: np.random.Generator) -> pa.Array:
    """Bits that are zero in all values stay so: some networks compute in bf16."""
    halves = _halves(rows)
    noisy = np.uint16(np.bitwise_or.reduce(halves) & (2**_NOISY_BITS - 1))
    columns = halves.reshape(-1, _dim(rows)).T
    mixed = np.stack([column[rng.integers(0, len(column), n)] for column in columns], axis=1)
    flat = np.ascontiguousarray(mixed).ravel()
    noise = rng.integers(0, 2**_NOISY_BITS, len(flat), np.uint16) & noisy
    flat = np.where(flat != 0, (flat & ~noisy) | noise, flat)
    kind = rows.schema.field("embedding").type
    return vector_lists(flat.view(np.float16).reshape(n, -1), kind)


def _halves(rows: pa.Table) -> np.ndarray:
    """The numbers of all vectors, as the bits of their float16."""
    return rows["embedding"].combine_chunks().flatten().to_numpy().view(np.uint16)


def _dim(rows: pa.Table) -> int:
    return rows.schema.field("embedding").type.list_size
