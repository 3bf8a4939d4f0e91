import numpy as np
import pyarrow as pa
import pytest

from dcd import neighbor_cache
from dcd.neighbor_cache import OWN_REASON, cached_neighbors
from dcd.search import in_label_neighbors
from dcd.store import Store
from tests.dcd.vector_pools import blocked_table, failures_table, line_pool

BLOCKED = {"i3": "in test"}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def searched(monkeypatch) -> list[list[str]]:
    """The failures of every search that really happens."""
    seen: list[list[str]] = []

    def search(store, index, failures, blocked, k):
        seen.append(sorted(failures["image_id"].to_pylist()))
        return in_label_neighbors(store, index, failures, blocked, k)

    monkeypatch.setattr(neighbor_cache, "in_label_neighbors", search)
    return seen


def failures(batches: dict[str, list[float]]) -> pa.Table:
    """Failures of label a at places on the line, a shard a batch."""
    parts = []
    for shard, places in batches.items():
        vectors = np.array(places)[:, None]
        part = failures_table(["a"] * len(places), vectors, prefix=shard)
        parts.append(part.append_column("shard", pa.repeat(shard, part.num_rows)))
    return pa.concat_tables(parts)


def test_only_new_failures_are_searched_and_the_union_is_that_of_one_search(store, searched):
    index = line_pool(store)
    first = failures({"x": [0.2, 4.1]})
    cached_neighbors(store, index, first, blocked_table(BLOCKED), 2)
    every = failures({"x": [0.2, 4.1], "y": [2.2]})
    found = cached_neighbors(store, index, every, blocked_table(BLOCKED), 2)
    assert searched == [["x000", "x001"], ["y000"]]
    whole = in_label_neighbors(store, index, every, blocked_table(BLOCKED), 2)
    assert found.equals(whole)
    assert cached_neighbors(store, index, every, blocked_table(BLOCKED), 2).equals(whole)
    assert len(searched) == 2


@pytest.mark.parametrize("later", [{"i4": OWN_REASON}, {}])
def test_a_pool_image_that_becomes_a_failure_or_stops_being_one(store, searched, later):
    index = line_pool(store)
    earlier = {} if later else {"i4": OWN_REASON}
    table = failures({"x": [0.2], "y": [4.1]})
    cached_neighbors(store, index, table, blocked_table(BLOCKED | earlier), 2)
    found = cached_neighbors(store, index, table, blocked_table(BLOCKED | later), 2)
    assert searched == [["x000", "y000"], ["y000"]]  # i4 was no neighbour of x000
    whole = in_label_neighbors(store, index, table, blocked_table(BLOCKED | later), 2)
    assert found.equals(whole)


def test_failures_that_no_neighbour_is_of_cost_no_search(store, searched):
    index = line_pool(store)
    table = failures({"x": [0.2]})
    cached_neighbors(store, index, table, blocked_table(BLOCKED), 2)
    cached_neighbors(store, index, table, blocked_table(BLOCKED | {"new": OWN_REASON}), 2)
    assert len(searched) == 1


@pytest.mark.parametrize("what", ["k", "blocked", "vector"])
def test_whatever_else_changes_is_searched_again(store, searched, what):
    index = line_pool(store)
    cached_neighbors(store, index, failures({"x": [0.2]}), blocked_table(BLOCKED), 2)
    table = failures({"x": [0.3 if what == "vector" else 0.2]})
    blocked = blocked_table(BLOCKED | ({"i1": "in train"} if what == "blocked" else {}))
    k = 3 if what == "k" else 2
    found = cached_neighbors(store, index, table, blocked, k)
    assert len(searched) == 2
    assert found.equals(in_label_neighbors(store, index, table, blocked, k))
