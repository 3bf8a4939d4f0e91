import numpy as np
import pyarrow as pa
import pytest

from dcd import schemas
from dcd.index import pool_sample
from dcd.search import in_label_neighbors
from dcd.store import Store
from dcd.trust import Trust
from dcd.trusted_search import (
    TOO_DEEP,
    UNTRUSTED,
    Objections,
    fill_rate,
    general_sample,
    objections,
    trusted_neighbors,
)
from tests.dcd.vector_pools import blocked_table, failures_table, line_pool


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def distrusting(*bad: str):
    """An objector that trusts all images but these."""

    def object_to(rows: pa.Table) -> Objections:
        good = np.array([i not in bad for i in rows["image_id"].to_pylist()], np.float32)
        return objections(Trust(0.5 * good, good), 0, 0.5)

    return object_to


def search(store: Store, bad: tuple[str, ...], k: int = 2, max_depth: int = 10, blocked=None):
    index = line_pool(store)
    failures = failures_table(["a"], np.array([[0.0]]))
    refused = blocked_table(blocked or {})
    return trusted_neighbors(store, index, failures, refused, k, distrusting(*bad), max_depth)


def rows_of(neighbors: pa.Table) -> list[tuple]:
    return [
        (row["image_id"], row["rank"], row["kept"], row["reason"]) for row in neighbors.to_pylist()
    ]


def test_refused_images_are_replaced_by_the_next_nearest(store):
    found = search(store, ("i0", "i1", "i3"), blocked={"i2": "in train"})
    assert found.schema.equals(schemas.NEIGHBORS)
    assert rows_of(found) == [
        ("i0", 1, False, UNTRUSTED),
        ("i1", 2, False, UNTRUSTED),
        ("i2", 3, False, "in train"),
        ("i3", 4, False, UNTRUSTED),
        ("i4", 5, True, None),
        ("i5", 6, True, None),
    ]
    assert found["label_agreement"].to_pylist() == [0.0, 0.0, None, 0.0, 0.5, 0.5]
    assert fill_rate(found, 1, 2) == 1


def test_a_label_that_runs_out_is_reported_as_under_filled(store):
    found = search(store, ("i0", "i1", "i2", "i3", "i4"))
    assert found.filter(found["kept"])["image_id"].to_pylist() == ["i5"]
    assert fill_rate(found, 1, 2) == 0.5


def test_nothing_is_kept_beyond_the_depth(store):
    found = search(store, ("i0", "i1"), max_depth=1)
    assert rows_of(found)[2:] == [("i2", 3, False, TOO_DEEP), ("i3", 4, False, TOO_DEEP)]
    assert fill_rate(found, 1, 2) == 0


def test_trust_in_everything_is_the_plain_search(store):
    found = search(store, ())
    index = line_pool(store)
    plain = in_label_neighbors(
        store, index, failures_table(["a"], np.array([[0.0]])), blocked_table({}), 2
    )
    assert found.drop(["label_agreement"]).equals(plain.drop(["label_agreement"]))


def test_the_general_sample_is_trusted_free_and_of_known_labels(store):
    sample = pool_sample(store, line_pool(store))
    blocked = blocked_table({"i0": "in train"})
    found = general_sample(sample, blocked, ["a"], 100, distrusting("i1"))
    assert found["image_id"].to_pylist() == ["i2", "i3", "i4", "i5"]
    assert found["label_agreement"].to_pylist() == [0.5] * 4
    few = general_sample(sample, blocked, ["a"], 2, distrusting())
    assert few.num_rows == 2
    assert general_sample(sample, blocked, ["a"], 0, distrusting()).num_rows == 0
