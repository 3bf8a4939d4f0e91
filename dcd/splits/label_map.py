"""From the weak labels of a pool (search queries, tags) to the classes that they stand for.

The map is applied when the pool is clustered by label, so another map needs no new embedding.
"""

from collections.abc import Set

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import PoolConfig
from dcd.errors import LabelError
from dcd.splits.label_table import read_any_table, read_labels
from dcd.tables import sql

_COLUMNS = ("weak_label", "label")


def read_label_map(pool: PoolConfig) -> pa.Table | None:
    """The rows (weak_label, label) of the pool's label map, each once, sorted; None without one.

    Raises DataError if the table cannot be read, LabelError if columns or labels are missing.
    """
    if pool.label_map is None:
        return None
    place = "pool.label_map"
    table = read_any_table(pool.label_map, place, as_text=_COLUMNS)
    if not set(_COLUMNS) <= set(table.column_names):
        raise LabelError(
            f"{place}: {pool.label_map} needs the columns weak_label and label, it has "
            f"{table.column_names}; rename its columns"
        )
    columns = {name: pc.utf8_trim_whitespace(table[name].cast(pa.string())) for name in _COLUMNS}
    pairs = pa.table(columns)
    for name in _COLUMNS:
        n_blank = pc.sum(pc.fill_null(pc.equal(pairs[name], ""), True), min_count=0).as_py()
        if n_blank:
            raise LabelError(
                f"{place}: {pool.label_map} has {n_blank} rows without {name}; fill or remove them"
            )
    if pairs.num_rows == 0:
        raise LabelError(f"{place}: {pool.label_map} has no rows; expected at least one")
    distinct = pairs.group_by(list(_COLUMNS), use_threads=False).aggregate([])
    return distinct.sort_by([(name, "ascending") for name in _COLUMNS])


def read_pool_labels(pool: PoolConfig) -> pa.Table | None:
    """What replaces the weak labels beside the images, as `dcd.index.build.build_index` takes it.

    Of a labels table: image_id, label, through the map if there is one. Of a map alone:
    weak_label, label. None without either. Raises as `read_labels` and `read_label_map` do, and
    LabelError if the map names no label of the table.
    """
    label_map = read_label_map(pool)
    labels = read_labels(pool, "pool", several_per_image=True)
    if label_map is None or labels is None:
        return label_map if labels is None else labels
    mapped = sql.map_labels(labels, label_map)
    if mapped.num_rows == 0:
        raise none_in_common(pool, set(labels["label"].to_pylist()), label_map)
    return mapped


def classes_of(weak_labels: Set[str], label_map: pa.Table) -> set[str]:
    """The classes that these weak labels stand for."""
    named = pc.is_in(label_map["weak_label"], value_set=pa.array(sorted(weak_labels), pa.string()))
    return set(label_map.filter(named)["label"].to_pylist())


def none_in_common(pool: PoolConfig, weak_labels: Set[str], label_map: pa.Table) -> LabelError:
    """The error of a map that names none of the pool's weak labels."""
    return LabelError(
        f"pool.label_map: {pool.label_map} names none of the pool's weak labels; the pool has "
        f"labels like {min(weak_labels)!r}, the map like {label_map['weak_label'][0].as_py()!r}"
    )
