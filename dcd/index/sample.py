"""Draw a uniform sample of a pool that is the same in whatever order the rows come.

The rows with the smallest content hashes: a bottom-k sketch (Cohen and Kaplan, "Summarizing data
using bottom-k sketches", PODC 2007). Samples of parts merge into the sample of the whole.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

_SLACK = 1.25  # rows kept between two cuts, against those wanted


class BottomK:
    """The rows with the smallest (content_hash, image_id, weak_label) of all tables taken.

    Rows of one content stand or fall together, but for the last ones. Holds at most 1.25 times
    `n_rows` rows between two calls. cutoff: of a sketch that has seen these rows among others.
    """

    def __init__(self, n_rows: int, schema: pa.Schema, cutoff: int = 2**64 - 1):
        self.n_rows = n_rows
        self._kept = schema.empty_table()
        self._cutoff = np.uint64(cutoff)

    @property
    def cutoff(self) -> int:
        """No row is among the lowest whose content hash begins with a larger number than this."""
        return int(self._cutoff)

    @property
    def n_held(self) -> int:
        return self._kept.num_rows

    def seeing(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Hand tables on. Where all rows are seen before one is taken, few are taken in vain.

        Rows may drop out between, if others of their content stay.
        """
        heads: list[np.ndarray] = []
        for rows in tables:
            seen = _heads(rows["content_hash"])
            heads.append(seen[seen <= self._cutoff])
            if sum(map(len, heads)) > 2 * self.n_rows:
                heads = [self._settled(heads)]
            yield rows
        if heads:
            self._settled(heads)

    def _settled(self, heads: list[np.ndarray]) -> np.ndarray:
        """Cut off after the n-th of the heads, each counted once: so many rows are below it."""
        ordered = np.sort(np.concatenate(heads))  # np.unique takes 15 times as long (numpy 2.4)
        is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        lowest = ordered[is_first[: len(ordered)]][: self.n_rows]
        if 0 < self.n_rows == len(lowest):
            self._cutoff = min(self._cutoff, lowest[-1])
        return lowest

    def take(self, rows: pa.Table) -> None:
        heads = _heads(rows["content_hash"])
        self._kept = pa.concat_tables([self._kept, rows.filter(pa.array(heads <= self._cutoff))])
        if self._kept.num_rows > _SLACK * self.n_rows:
            self._cut()

    def table(self) -> pa.Table:
        """Return at most `n_rows` rows, by (weak_label, image_id)."""
        if self._kept.num_rows > self.n_rows:
            self._cut()
        by_label = [("weak_label", "ascending"), ("image_id", "ascending")]
        self._kept = self._kept.sort_by(by_label).combine_chunks()  # no second copy is held
        return self._kept

    def _cut(self) -> None:
        self._kept = kept = self._kept.combine_chunks()
        ids = kept.select(["content_hash", "image_id", "weak_label"])
        order = ids.append_column("row", pa.array(np.arange(kept.num_rows))).sort_by(
            [(name, "ascending") for name in ids.column_names]
        )
        lowest = order["row"].slice(0, self.n_rows).to_numpy()
        self._kept = kept.take(pa.array(np.sort(lowest)))
        self._cutoff = _heads(self._kept["content_hash"]).max()


def _heads(hashes: pa.ChunkedArray) -> np.ndarray:
    """The first eight bytes of every hash, as numbers in the order of the bytes."""
    fixed = hashes.combine_chunks()
    width = fixed.type.byte_width
    flat = np.frombuffer(fixed.buffers()[1], np.uint8)
    rows = flat[fixed.offset * width : (fixed.offset + len(fixed)) * width].reshape(-1, width)
    return rows[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
