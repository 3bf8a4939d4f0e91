"""From the weak labels of a pool (search queries, tags) to the classes that they stand for.

The map is applied when the pool is clustered by label, so another map needs no new embedding.
"""

from collections.abc import Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import PoolConfig
from dcd.errors import LabelError
from dcd.splits.label_table import LabelTable, read_label_table, read_pairs
from dcd.store import keys
from dcd.tables import sql

_COLUMNS = ("weak_label", "label")


def read_label_map(pool: PoolConfig) -> pa.Table | None:
    """Read the rows (weak_label, label) of the pool's label map, each once, sorted; None without
    one.

    Raises DataError if the table cannot be read, LabelError if columns or labels are missing.
    """
    found = _read_map(pool)
    return None if found is None else found.told()


def read_pool_labels(pool: PoolConfig) -> pa.Table | None:
    """Read what replaces the weak labels beside the images, as `dcd.index.build.build_index` takes
    it.

    Of a labels table: image_id, label, through the map if there is one. Of a map alone:
    weak_label, label. None without either. Raises as `read_labels` and `read_label_map` do, and
    LabelError if the map names no label of the table.
    """
    found = read_pool_table(pool)
    return None if found is None else found.told()


def read_pool_table(pool: PoolConfig) -> LabelTable | None:
    """Read the rows of `read_pool_labels` with what was cleaned or guessed in them."""
    label_map = _read_map(pool)
    labels = _read_labels(pool)
    if label_map is None or labels is None:
        return label_map if labels is None else labels
    mapped = sql.map_labels(labels.rows, label_map.rows)
    if mapped.num_rows == 0:
        raise none_in_common(pool, set(labels.rows["label"].to_pylist()), label_map.rows)
    return LabelTable(mapped, labels.notes + label_map.notes)


@dataclass(frozen=True)
class Unlabelled:
    """Which images of a pool came without a label.

    named: ids that its labels table gives one; None: there is no table, and images without a weak
    label of their own are meant. only: ids of rows without a label that `where` picks; with a
    `where` an image of no picked row is none of the pool's. A weak label that a label map does not
    name is a label: it stands for no class.
    """

    named: pa.Array | None = None
    only: pa.Array | None = None

    @property
    def digest(self) -> list[str | None]:
        """What tells it from others, for ids."""
        return [
            None if ids is None else keys.table_digest(pa.table({"image_id": ids}))
            for ids in (self.named, self.only)
        ]


def read_unlabelled(pool: PoolConfig) -> Unlabelled:
    """Find which images the pool's labels table leaves without a label. Raises as `read_labels`."""
    found = _read_labels(pool)
    if found is None:
        return Unlabelled()
    named = pc.unique(found.rows["image_id"]).sort()
    if pool.where is None or found.blank is None:
        return Unlabelled(named)
    blank = pc.unique(found.blank).sort()
    return Unlabelled(named, blank.filter(pc.invert(pc.is_in(blank, value_set=named))))


def _read_labels(pool: PoolConfig) -> LabelTable | None:
    return read_label_table(
        pool, "pool", several_per_image=True, may_lack_labels=pool.unlabelled == "posterior"
    )


def _read_map(pool: PoolConfig) -> LabelTable | None:
    if pool.label_map is None:
        return None
    found = read_pairs(pool.label_map, _COLUMNS, "pool.label_map")
    if found.rows.num_rows == 0:
        raise LabelError(f"pool.label_map: {pool.label_map} has no rows; expected at least one")
    return found


def classes_of(weak_labels: Set[str], label_map: pa.Table) -> set[str]:
    """Return the classes that these weak labels stand for."""
    named = pc.is_in(label_map["weak_label"], value_set=pa.array(sorted(weak_labels), pa.string()))
    return set(label_map.filter(named)["label"].to_pylist())


def none_in_common(pool: PoolConfig, weak_labels: Set[str], label_map: pa.Table) -> LabelError:
    """Make the error of a map that names none of the pool's weak labels."""
    return LabelError(
        f"pool.label_map: {pool.label_map} names none of the pool's weak labels; the pool has "
        f"labels like {min(weak_labels)!r}, the map like {label_map['weak_label'][0].as_py()!r}"
    )
