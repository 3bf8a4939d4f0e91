import numpy as np
import pyarrow as pa
import pytest

from dcd.index.search import in_label_neighbors
from dcd.selection.neighbor_cache import OWN_REASON, cached_neighbors
from dcd.store import Store
from tests.dcd.index.vector_pools import blocked_table, failures_table, line_pool

BLOCKED = {"i3": "in test"}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def searched() -> list[list[str]]:
    """The failures of every search that really happens."""
    return []


def cached(store, index, table, blocked: dict[str, str], k, searched) -> pa.Table:
    def search(asked: pa.Table) -> pa.Table:
        searched.append(sorted(asked["image_id"].to_pylist()))
        return in_label_neighbors(store, index, asked, blocked_table(blocked), k)

    return cached_neighbors(store, index, table, blocked_table(blocked), [k], search)


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
    cached(store, index, first, BLOCKED, 2, searched)
    every = failures({"x": [0.2, 4.1], "y": [2.2]})
    found = cached(store, index, every, BLOCKED, 2, searched)
    assert searched == [["x000", "x001"], ["y000"]]
    whole = in_label_neighbors(store, index, every, blocked_table(BLOCKED), 2)
    assert found.equals(whole)
    assert cached(store, index, every, BLOCKED, 2, searched).equals(whole)
    assert len(searched) == 2


@pytest.mark.parametrize("later", [{"i4": OWN_REASON}, {}])
def test_a_pool_image_that_becomes_a_failure_or_stops_being_one(store, searched, later):
    index = line_pool(store)
    earlier = {} if later else {"i4": OWN_REASON}
    table = failures({"x": [0.2], "y": [4.1]})
    cached(store, index, table, BLOCKED | earlier, 2, searched)
    found = cached(store, index, table, BLOCKED | later, 2, searched)
    assert searched == [["x000", "y000"], ["y000"]]  # i4 was no neighbour of x000
    whole = in_label_neighbors(store, index, table, blocked_table(BLOCKED | later), 2)
    assert found.equals(whole)


def test_failures_that_no_neighbour_is_of_cost_no_search(store, searched):
    index = line_pool(store)
    table = failures({"x": [0.2]})
    cached(store, index, table, BLOCKED, 2, searched)
    cached(store, index, table, BLOCKED | {"new": OWN_REASON}, 2, searched)
    assert len(searched) == 1


@pytest.mark.parametrize("what", ["k", "blocked", "vector"])
def test_whatever_else_changes_is_searched_again(store, searched, what):
    index = line_pool(store)
    cached(store, index, failures({"x": [0.2]}), BLOCKED, 2, searched)
    table = failures({"x": [0.3 if what == "vector" else 0.2]})
    blocked = BLOCKED | ({"i1": "in train"} if what == "blocked" else {})
    k = 3 if what == "k" else 2
    found = cached(store, index, table, blocked, k, searched)
    assert len(searched) == 2
    assert found.equals(in_label_neighbors(store, index, table, blocked_table(blocked), k))
