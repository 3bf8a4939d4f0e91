"""Pick rows of tables by content or id: all but some, one of each, in a given order."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def codes(values: pa.Array, value_set: pa.Array) -> np.ndarray:
    """Return the place of each value in `value_set`: (N,) int64, -1 where it is not there."""
    return pc.fill_null(pc.index_in(values, value_set=value_set), -1).to_numpy().astype(np.int64)


def one_row_a_content(rows: pa.Table) -> pa.Table:
    """Keep the first row of every content_hash, in the order of `rows`."""
    place = pa.array(np.arange(rows.num_rows))
    first = rows.append_column("place", place).group_by("content_hash", use_threads=False)
    return rows.take(first.aggregate([("place", "min")])["place_min"].sort())


def without(rows: pa.Table, blocked: pa.Table) -> pa.Table:
    """Keep the rows whose content_hash is not among the blocked."""
    taken = pc.is_in(rows["content_hash"], value_set=blocked["content_hash"])
    return rows.filter(pc.invert(taken))


def in_order_of(picks: pa.Table, table: pa.Table) -> pa.Table:
    """Return the row of `table` for every pick, by image_id."""
    return table.take(pc.index_in(picks["image_id"], value_set=table["image_id"].combine_chunks()))


def with_column(
    table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray, field: pa.Field | None = None
) -> pa.Table:
    """Replace the values of a column in its place. field: its new one, if it does not stay."""
    place = table.schema.get_field_index(name)
    return table.set_column(place, field or table.schema.field(name), values)


def weak_or_given_label(rows: pa.Table) -> pa.ChunkedArray:
    """Return the column `label`, or `weak_label` in rows that come from an index's sample."""
    return rows["label" if "label" in rows.column_names else "weak_label"]
