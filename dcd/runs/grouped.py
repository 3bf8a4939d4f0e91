"""Say in a run's predictions which images belong together."""

from collections.abc import Mapping

import pyarrow as pa

from dcd.config import RunConfig, Split
from dcd.splits.groups import image_groups
from dcd.splits.split import SplitInfo
from dcd.store import Store

_JUDGING: tuple[Split, ...] = ("test", "debug_val", "debug_heldout")
_KEY = ["seed", "split", "image_id"]


def groups_of_run(
    store: Store, config: RunConfig, splits: Mapping[int, Mapping[Split, SplitInfo]]
) -> pa.Table:
    """Return seed, split, image_id, group of all images that judge and do not stand alone."""
    schema = pa.schema([*zip(_KEY, (pa.int64(), pa.string(), pa.string()), strict=True)])
    parts = [schema.append(pa.field("group", pa.string())).empty_table()]
    for seed, of_seed in splits.items():
        for split in _JUDGING:
            data = config.dataset(split, seed)
            if data is not None and split in of_seed:
                found = image_groups(store, of_seed[split], data, config.selection.leak_distance)
                n = found.num_rows
                seeds, names = pa.repeat(pa.scalar(seed, pa.int64()), n), pa.repeat(split, n)
                parts.append(pa.table([seeds, names, *found.columns], schema=parts[0].schema))
    return pa.concat_tables(parts)


def with_groups(predictions: pa.Table, groups: pa.Table) -> pa.Table:
    """Append `group` to predictions (schemas.PREDICTIONS), null for an image that stands alone.

    The order of the rows stays.
    """
    numbered = predictions.select(_KEY).append_column(
        "row", pa.array(range(predictions.num_rows), pa.int64())
    )
    joined = numbered.join(groups, _KEY, join_type="left outer").sort_by("row")
    return predictions.append_column("group", joined["group"])
