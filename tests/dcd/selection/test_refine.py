import numpy as np
import pyarrow as pa
import pytest

from dcd.config import SelectionConfig
from dcd.index.read import vectors_of
from dcd.index.search import in_label_neighbors
from dcd.selection.filters import DUPLICATE, FAR, QUOTA, UNDIVERSE
from dcd.selection.refine import DOUBTFUL, refine, unlike_failures
from dcd.store import Store
from tests.dcd.index.vector_pools import blocked_table, failures_table, line_pool


@pytest.fixture
def search(tmp_path):
    """The neighbours of a failure at 0 among images at 0, 1, 2, … of which each agrees by half."""

    def run(k: int, **switches: object) -> list[tuple[str, str | None]]:
        store = Store(str(tmp_path / "store"))
        index = line_pool(store)
        failures = failures_table(["a"], np.array([[0.0]]))
        train = failures_table(["a", "b"], np.array([[1.5], [3.5]]), "t")
        config = SelectionConfig.model_validate({"k": k, **switches})
        found = in_label_neighbors(store, index, failures, blocked_table({}), config.width)
        at = found.schema.get_field_index("label_agreement")
        half = pa.array([0.5] * found.num_rows, pa.float32())
        found = found.set_column(at, "label_agreement", half)
        rows = vectors_of(store, index, found["image_id"])
        found = refine(found, rows, failures, failures, train, config)
        return [(row["image_id"], row["reason"]) for row in found.to_pylist()]

    return run


def test_the_defaults_refuse_nothing(search):
    assert not SelectionConfig().refines
    assert search(2) == [("i0", None), ("i1", None)]


def test_beyond_the_calibrated_distance_nothing_is_kept(search):
    # The train image at 1.5 shares the failure's label, the one at 3.5 does not.
    assert search(3, min_pair_precision=0.9) == [("i0", None), ("i1", None), ("i2", FAR)]


def test_diversity_chooses_among_three_times_k(search):
    reasons = dict(search(2, diversity=True))
    assert len(reasons) == 6
    assert [i for i, reason in reasons.items() if reason is None] == ["i0", "i5"]
    assert reasons["i1"] == UNDIVERSE


def test_doubtful_labels_cost_picks(search):
    reasons = search(4, adaptive_k_min=1)
    assert [reason for _, reason in reasons] == [None, None, DOUBTFUL, DOUBTFUL]


def test_quota_and_near_copies(search):
    assert search(3, max_per_mode=2)[-1] == ("i2", QUOTA)
    # On a line all vectors of length 1 are the same, but that of zero.
    assert [r for _, r in search(3, near_copy_distance=0.1)] == [None, None, DUPLICATE]


def test_only_candidates_of_failing_labels_are_pushed_away():
    rows = failures_table(["a", "a", "b"], np.array([[1.0], [4.0], [4.0]]), "p")
    failures = failures_table(["a"], np.array([[0.0]]))
    negatives = failures_table(["b"], np.array([[5.0]]), "n")
    assert unlike_failures(rows, failures, negatives).tolist() == [False, True, False]
