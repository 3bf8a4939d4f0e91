"""Find what a pool lacks for a selection, over one store: see `dcd.evaluation.pool_gaps`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import Split
from dcd.evaluation.pool_gaps import FAR_QUANTILE, PoolGaps, find_gaps
from dcd.index.info import IndexInfo
from dcd.index.search import in_label_neighbors
from dcd.selection.filters import usable
from dcd.selection.select import SelectionInfo
from dcd.splits.split import SplitInfo, blocked_content, split_table
from dcd.store import Store, keys

MAX_CALIBRATING = 400  # images of train: 20 lie beyond the 95 % quantile, enough to place it
_CALIBRATION_FORMAT = 1
_WHERE_NONE_IS_MET = 10.0  # images to collect for a failure


def pool_gaps(
    store: Store, index: IndexInfo, splits: Mapping[Split, SplitInfo], selection: SelectionInfo
) -> PoolGaps | None:
    """Find what the pool lacks for a selection; None where train has none of the failing labels.

    Searches the failures' labels once more, for at most MAX_CALIBRATING images of train; what that
    gives is kept in the store.
    """
    failures = split_table(store, splits["error_sample"])
    labels = pc.unique(failures["label"]).sort()
    distances = _calibration(store, index, splits, labels)
    if len(distances) == 0:
        return None
    neighbors = store.read_table(keys.selection_neighbors(selection.id))
    far = float(np.quantile(distances, FAR_QUANTILE))
    nearest = _nearest(neighbors.filter(usable(neighbors)))
    each = _picks_of_a_met_failure(neighbors, {i for i, at in nearest.items() if at <= far})
    gaps = find_gaps(failures.select(["image_id", "label", "mode"]), nearest, far, each)
    return PoolGaps(far, len(distances), failures.num_rows, gaps)


def _nearest(neighbors: pa.Table) -> dict[str, float]:
    """The least distance by failure."""
    least = neighbors.group_by("error_image_id").aggregate([("distance", "min")])
    ids, distances = (least[name].to_pylist() for name in ("error_image_id", "distance_min"))
    return dict(zip(ids, distances, strict=True))


def _picks_of_a_met_failure(neighbors: pa.Table, met: set[str]) -> float:
    """How many images the pool gave for a failure that it meets, shared ones counted once."""
    ids = pa.array(sorted(met), pa.string())
    of_met = neighbors.filter(
        pc.and_(neighbors["kept"], pc.is_in(neighbors["error_image_id"], ids))
    )
    n_picks = pc.count_distinct(of_met["image_id"]).as_py()
    return n_picks / len(met) if n_picks else _WHERE_NONE_IS_MET


def _calibration(
    store: Store, index: IndexInfo, splits: Mapping[Split, SplitInfo], labels: pa.Array
) -> np.ndarray:
    """Distances (N,) of images of train to their nearest pool image of their label."""
    blocked = blocked_content(store, splits).sort_by("content_hash")
    key = keys.neighbors(
        keys.digest(
            "far",
            _CALIBRATION_FORMAT,
            [index.pool, index.encoder_id, index.index_id, splits["train"].id],
            [labels.to_pylist(), keys.table_digest(blocked), MAX_CALIBRATING],
        )
    )
    if not store.exists(key):
        train = split_table(store, splits["train"])
        train = train.filter(pc.is_in(train["label"], value_set=labels))
        drawn = np.random.default_rng(0).permutation(train.num_rows)[:MAX_CALIBRATING]
        asked = train.take(pa.array(np.sort(drawn)))
        found = in_label_neighbors(store, index, asked, blocked, 1)
        store.write_table(key, found.filter(found["kept"]))
    return store.read_table(key, ["distance"])["distance"].to_numpy()
