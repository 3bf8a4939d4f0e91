"""Draw a uniform sample of a pool that is the same in whatever order the rows come.

The rows with the smallest content hashes: a bottom-k sketch (Cohen and Kaplan, "Summarizing data
using bottom-k sketches", PODC 2007). Samples of parts merge into the sample of the whole.
"""

import numpy as np
import pyarrow as pa

_SLACK = 1.25  # rows kept between two cuts, against those wanted


class BottomK:
    """The rows with the smallest (content_hash, image_id, weak_label) of all tables taken.

    Rows of one content stand or fall together, but for the last ones. Holds at most 1.25 times
    `n_rows` rows between two calls.
    """

    def __init__(self, n_rows: int, schema: pa.Schema):
        self.n_rows = n_rows
        self._kept = schema.empty_table()
        self._cutoff = np.uint64(2**64 - 1)

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
        return self._kept.sort_by(by_label).combine_chunks()

    def _cut(self) -> None:
        kept = self._kept.combine_chunks()
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
