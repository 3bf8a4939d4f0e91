import numpy as np
import pyarrow as pa

from dcd.config import DataConfig, Split
from dcd.index.build import build_index
from dcd.index.search import in_label_neighbors
from dcd.selection.filters import DUPLICATE, LEFT, usable
from dcd.selection.pool_gaps import pool_gaps
from dcd.selection.select import SelectionInfo
from dcd.sources.source import source_of
from dcd.splits.split import SplitInfo, blocked_content
from dcd.store import Store, keys
from dcd.tables import schemas
from tests.dcd.index.vector_pools import ENCODER, POOL, failures_table, put_shard

N_POOL, N_TRAIN, DIM, K = 400, 60, 4, 5


def split(store: Store, name: Split, vectors: np.ndarray) -> SplitInfo:
    table = failures_table(["a"] * len(vectors), vectors, prefix=name)
    store.write_table(keys.split(name), table)
    source = source_of(DataConfig(images=f"{name}.tar"))
    return SplitInfo(name, name, source, table.num_rows, table.num_rows, False)


def test_failures_beyond_what_is_usual_for_train_are_found_and_no_others(tmp_path):
    """A cloud of pool and train images, six failures in it, four that were moved ten away."""
    store, rng = Store(str(tmp_path / "store")), np.random.default_rng(0)
    ids = [f"i{i:03d}" for i in range(N_POOL)]
    put_shard(store, "s0", ids, ["a"] * N_POOL, rng.normal(size=(N_POOL, DIM)))
    index = build_index(store, POOL, ENCODER, ["s0"], None)
    failing = rng.normal(scale=0.5, size=(10, DIM))
    failing[6:] += 10
    splits: dict[Split, SplitInfo] = {
        "train": split(store, "train", rng.normal(size=(N_TRAIN, DIM))),
        "error_sample": split(store, "error_sample", failing),
    }
    failures = store.read_table(keys.split("error_sample"))
    blocked = blocked_content(store, splits)
    neighbors = in_label_neighbors(store, index, failures, blocked, K)
    store.write_table(keys.selection_neighbors("sel"), neighbors)
    found = pool_gaps(store, index, splits, SelectionInfo("sel", 10, 0, False))
    assert found is not None
    nearest = in_label_neighbors(store, index, store.read_table(keys.split("train")), blocked, 1)
    assert found.n_calibrating == N_TRAIN
    assert np.isclose(found.far_l2, np.quantile(nearest["distance"].to_numpy(), 0.95))
    (gap,) = found.gaps
    assert sorted(gap.failures) == [f"error_sample{i:03d}" for i in range(6, 10)]
    assert gap.nearest_l2 is not None
    assert gap.nearest_l2 > 10
    # Each of the six that are met got at most K images of its own, and not all are the same.
    assert 4 <= gap.n_wanted <= 4 * K
    before = set(store.keys_under("neighbors"))
    assert pool_gaps(store, index, splits, SelectionInfo("sel", 10, 0, False)) == found
    assert set(store.keys_under("neighbors")) == before


def test_what_was_only_not_needed_is_usable_and_what_was_refused_is_not():
    reasons = [None, DUPLICATE, LEFT, "taken in round 2", "label not trusted", "in test"]
    common = {"error_image_id": "e", "label": "a", "distance": 1.0, "label_agreement": None}
    rows = [
        {**common, "image_id": str(i), "rank": i, "kept": reason is None, "reason": reason}
        for i, reason in enumerate(reasons)
    ]
    found = usable(pa.Table.from_pylist(rows, schemas.NEIGHBORS)).to_pylist()
    assert found == [True, True, True, True, False, False]
