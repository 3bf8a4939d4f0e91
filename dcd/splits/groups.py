"""Say which images of a split belong together: frames of a burst, crops of a picture, near copies.

They are named by a column of the labels table, or else found: images so near to each other that
they are copies of one picture.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import DataConfig
from dcd.errors import LabelError
from dcd.sources.tables import open_table
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables.labels import cleaned, id_column
from dcd.tables.near_copies import copy_groups
from dcd.tables.vectors import unit_vectors

# Raised whenever the same split would get other groups.
_FORMAT = 1
_MANY_IMAGES = 2000  # from which on comparing them takes longer than reading what was found

GROUPS = pa.schema([("image_id", pa.string()), ("group", pa.string())])


def image_groups(store: Store, info: SplitInfo, data: DataConfig, copy_distance: float) -> pa.Table:
    """Return GROUPS of a split's images; images that stand alone are not in it.

    copy_distance: where `data` names no column, images nearer to each other are copies.
    """
    named = read_groups(data, info.split)
    if named is None:
        return _near_copies(store.url, info, copy_distance)
    return named.filter(named["group"].is_valid())


def read_groups(data: DataConfig, place: str) -> pa.Table | None:
    """Read GROUPS from a data set's labels table; None if it names no `group_column`.

    Raises DataError if the table cannot be read, LabelError if it has no such column, nothing in it
    or what is no text or number, or puts an image into two groups.
    """
    if data.group_column is None or data.labels is None:
        return None
    what = f"{place}.labels: {data.labels}"
    file = open_table(data.labels, f"{place}.labels")
    absent = {"image_id", data.group_column} - set(file.names)
    if absent:
        raise LabelError(
            f"{what} has no column {sorted(absent)}; it has {file.names}; name the one that tells "
            "which images belong together with group_column"
        )
    table = file.read({"image_id", data.group_column})
    found = cleaned(table[data.group_column], file.code_book(data.group_column))
    if faults := found.faults():
        reason = faults.most_common(1)[0][0].replace("label", "group")
        raise LabelError(f"{what}: column {data.group_column} holds no groups: {reason}")
    groups = found.column()
    if groups.null_count == len(groups):
        raise LabelError(
            f"{what}: column {data.group_column} is blank in every row; name the one that tells "
            "which images belong together, or remove group_column"
        )
    ids = id_column(table["image_id"])
    pairs = pa.table([ids, groups], schema=GROUPS).group_by(GROUPS.names, use_threads=False)
    rows = pairs.aggregate([]).sort_by([(name, "ascending") for name in GROUPS.names])
    if len(pc.unique(rows["image_id"])) < rows.num_rows:
        counts = rows.group_by("image_id", use_threads=False).aggregate([([], "count_all")])
        torn = counts.filter(pc.greater(counts["count_all"], 1))["image_id"]
        raise LabelError(
            f"{what}: {len(torn):,} images stand in two groups ({data.group_column}), such as "
            f"{torn[0].as_py()!r}; give every image one"
        )
    return rows


@lru_cache(maxsize=32)
def _near_copies(url: str, info: SplitInfo, copy_distance: float) -> pa.Table:
    store = Store(url)
    table = split_table(store, info)
    numbers = _numbers(store, info, table, copy_distance)
    rows = pa.table({"image_id": table["image_id"], "number": numbers})
    sizes = rows.group_by("number", use_threads=False).aggregate(
        [("image_id", "min"), ([], "count_all")]
    )
    several = sizes.filter(pc.greater(sizes["count_all"], 1))
    joined = rows.join(several, "number", join_type="inner").sort_by("image_id")
    named = pc.binary_join_element_wise("near copies of", joined["image_id_min"], " ")
    return pa.table([joined["image_id"], named], schema=GROUPS)


def _numbers(store: Store, info: SplitInfo, table: pa.Table, copy_distance: float) -> pa.Array:
    """The group of each row of a split's table; kept, for new failures leave that table as it is.

    What is kept holds no image's id.
    """
    if table.num_rows < _MANY_IMAGES:
        return pa.array(copy_groups(unit_vectors(table), copy_distance).astype(np.int32))
    key = keys.copies(keys.digest(_FORMAT, info.id, copy_distance))
    if not store.exists(key):
        numbers = copy_groups(unit_vectors(table), copy_distance).astype(np.int32)
        store.write_table(key, pa.table({"number": numbers}))
    return store.read_table(key)["number"].combine_chunks()
