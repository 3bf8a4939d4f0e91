"""Sort more rows than memory holds: sorted runs in a file, merged a few blocks at a time.

External sorting by merging: Knuth, The Art of Computer Programming, volume 3, section 5.4. The
first key of every block stays in memory, and the blocks are needed in the order of these keys: so
the merge knows before it starts what it will read, and compares whole blocks at once.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.store.errors import explained

_BLOCK_BYTES = 2**17  # the merge holds a block of every run
_MIN_BLOCKS_AT_ONCE = 128
_PIECE_BYTES = 2**23  # copied in order at once, while a run is written
_MAX_RUN_BYTES = 2**30  # an array holds at most 2 GiB of text
_SHARE_OF_A_RUN = 24  # one fills while one is copied in order: three, and what allocators keep


class ExternalSort:
    """Sorts rows by the columns `order`, ascending, text by its bytes.

    Rows are of `schema`, without nulls in `order`; how they come does not matter, but for those
    that are equal in `order`. What does not fit in a part of max_memory_bytes goes to a file in
    `folder`, as large as the rows are, until the sort is closed. A run is put in order and written
    by a thread while the next one is gathered. Raises StoreError if the disk is full.
    """

    def __init__(
        self, schema: pa.Schema, order: Sequence[str], folder: Path, max_memory_bytes: int
    ):
        self._schema = schema
        self._order = list(order)
        self._path = folder / "sorted-runs"
        self._run_bytes = min(max_memory_bytes // _SHARE_OF_A_RUN, _MAX_RUN_BYTES)
        self._run: list[pa.Table] = []  # in memory
        self._n_bytes = 0
        self._index: list[pa.Table] = []  # of each run: first key, offset and bytes of its blocks
        self._sink: BinaryIO | None = None
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[pa.Table] | None = None

    def __enter__(self) -> "ExternalSort":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        if self._sink is not None:
            with suppress(OSError):  # what a full disk did not take is wanted no more
                self._sink.close()
            self._path.unlink()

    def take(self, rows: pa.Table) -> None:
        """Take some rows. Waits if the run before the last is still being written."""
        if rows.num_rows == 0:
            return
        if self._run and self._n_bytes + rows.nbytes > self._run_bytes:
            self._spill()
        self._run.append(rows)
        self._n_bytes += rows.nbytes

    def sorted(self) -> Generator[pa.Table, None, None]:
        """Yield all rows in order; nothing can be taken any more."""
        if self._sink is None:
            yield from (piece for _, piece in _pieces(_joined(self._run), self._order, 1))
            return
        self._spill()
        self._wait()
        at_once = max(_MIN_BLOCKS_AT_ONCE, len(self._index))
        index = pa.concat_tables(self._index)
        blocks = index.take(_order_of(index, self._order)).combine_chunks()
        waiting: list[pa.Table] = []
        with pa.OSFile(str(self._path)) as source:
            for start in range(0, blocks.num_rows, at_once):
                waiting += self._read(source, blocks.slice(start, at_once))
                # Rows that are not read yet do not come before the first of the next block.
                bound = blocks.slice(start + at_once, 1).select(self._order)
                below, waiting = _below(waiting, bound)
                if below.num_rows:
                    yield below

    def _spill(self) -> None:
        if self._sink is None:
            self._sink = self._path.open("wb")
        self._wait()
        self._pending = self._thread.submit(self._write, self._run, self._sink)
        self._run, self._n_bytes = [], 0

    def _wait(self) -> None:
        if self._pending is not None:
            self._index.append(self._pending.result())
            self._pending = None

    def _write(self, run: list[pa.Table], sink: BinaryIO) -> pa.Table:
        offset = sink.tell()
        joined = _joined(run)
        block_rows = max(1, _BLOCK_BYTES * joined.num_rows // max(1, joined.nbytes))
        firsts, n_bytes = [], []
        for rows, piece in _pieces(joined, self._order, block_rows):
            firsts.append(rows[::block_rows])
            blocks = piece.combine_chunks().to_batches(max_chunksize=block_rows)
            with explained(str(self._path), "write"):
                n_bytes += [sink.write(block.serialize()) for block in blocks]
                sink.flush()
        offsets = offset + np.cumsum([0, *n_bytes[:-1]])
        index = joined.select(self._order).take(pa.array(np.concatenate(firsts)))
        index = index.append_column("offset", pa.array(offsets))
        return index.append_column("n_bytes", pa.array(n_bytes))

    def _read(self, source: pa.NativeFile, blocks: pa.Table) -> list[pa.Table]:
        found = []
        for offset, n_bytes in zip(
            blocks["offset"].to_pylist(), blocks["n_bytes"].to_pylist(), strict=True
        ):
            source.seek(offset)
            batch = pa.ipc.read_record_batch(source.read_buffer(n_bytes), self._schema)
            found.append(pa.Table.from_batches([batch]))
        return found


def _joined(run: list[pa.Table]) -> pa.Table:
    """One table; the list is emptied, so that the tables are held once."""
    if not run:
        return pa.table({})
    joined = pa.concat_tables(run).combine_chunks()
    run.clear()
    return joined


def _pieces(
    rows: pa.Table, order: Sequence[str], n_multiple: int
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Copy rows in order, a piece at a time of a multiple of `n_multiple` rows, but for the last.

    Yields the numbers of the rows, and the rows.
    """
    by_key = _order_of(rows, order).to_numpy() if rows.num_rows else np.empty(0, np.int64)
    n_rows = _PIECE_BYTES * rows.num_rows // max(1, rows.nbytes)
    n_rows = max(n_multiple, n_rows // n_multiple * n_multiple)
    for start in range(0, rows.num_rows, n_rows):
        numbers = by_key[start : start + n_rows]
        yield numbers, rows.take(pa.array(numbers))


def _below(blocks: list[pa.Table], bound: pa.Table) -> tuple[pa.Table, list[pa.Table]]:
    """Split sorted blocks into what comes before `bound`, in order, and what is left of each.

    bound: a row, or none: then everything comes before it.
    """
    order = bound.column_names
    keys = pa.concat_tables([bound, *(block.select(order) for block in blocks)]).combine_chunks()
    # The sort is stable: the bound stands before the rows that are equal to it.
    rows = _order_of(keys, order).to_numpy().astype(np.int64)
    if bound.num_rows:
        rows = rows[: np.flatnonzero(rows == 0)[0]] - 1
    taken = np.zeros(sum(block.num_rows for block in blocks), bool)
    taken[rows] = True
    starts = np.cumsum([0, *(block.num_rows for block in blocks[:-1])])
    n_taken = np.add.reduceat(taken, starts, dtype=np.int64).tolist()
    pairs = list(zip(blocks, n_taken, strict=True))
    heads = pa.concat_tables([block.slice(0, n) for block, n in pairs]).combine_chunks()
    place = np.cumsum(taken) - 1
    left = [block.slice(n) for block, n in pairs if n < block.num_rows]
    return heads.take(pa.array(place[rows])), left


def _order_of(table: pa.Table, order: Sequence[str]) -> pa.Array:
    return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in order])
