"""The log of decisions: every one is kept once, whatever crashes, races or is sent again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from dcd.errors import DataError, StoreError
from dcd.reviews.decisions import Decision, read_reviews, record
from dcd.reviews.standing import standing
from dcd.store import Store, keys, object_log
from dcd.store.kinds import kind_of
from dcd.tables import schemas
from tests.dcd.reviews.said import content, said


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def ids(store: Store) -> list[str]:
    return read_reviews(store)["decision_id"].to_pylist()


def test_decisions_are_kept_in_their_order(store):
    record(store, [said(2, "x", "accept"), said(1, "y", "reject")])
    record(store, [said(3, "z", "relabel", "dog")])
    found = read_reviews(store)
    assert found["decision_id"].to_pylist() == ["d-2", "d-1", "d-3"]
    assert found["true_label"].to_pylist() == [None, None, "dog"]
    assert found.column_names == [*schemas.REVIEWS.names, "batch"]


def test_a_batch_that_is_sent_again_is_the_same_object(store):
    batch = [said(1, "x", "accept"), said(2, "y", "reject")]
    first, again = record(store, batch), record(store, batch)
    assert (first.was_there, again.was_there) == (False, True)
    assert (again.batch, again.decided) == (first.batch, first.decided)
    assert len(store.keys_under(keys.REVIEW_BATCHES)) == 1


def test_a_decision_that_comes_again_in_another_batch_counts_once(store):
    record(store, [said(1, "x", "accept")])
    record(store, [said(1, "x", "accept"), said(2, "y", "reject")])
    assert ids(store) == ["d-1", "d-2"]


def test_writers_at_the_same_time_lose_nothing(store):
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        mine = [said(f"{number}-{i}", f"i{i}", "accept", reviewer=f"r{number}") for i in range(5)]
        record(store, mine)
        record(store, mine)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert sorted(ids(store)) == sorted(f"d-{n}-{i}" for n in range(8) for i in range(5))


def test_a_write_that_fails_keeps_nothing_and_may_be_tried_again(store, monkeypatch):
    batch = [said(1, "x", "accept")]

    def fail(self, key, data):
        raise StoreError(f"{key}: disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write_bytes", fail)
        with pytest.raises(StoreError, match="disk full"):
            record(store, batch)
    assert ids(store) == []
    record(store, batch)
    assert ids(store) == ["d-1"]


def test_who_has_seen_a_decision_decides_later_whatever_the_clocks_say(store):
    ahead = datetime.now(UTC) + timedelta(hours=3)
    record(store, [said(1, "x", "accept")], after=ahead)
    latest = read_reviews(store)["decided"].to_pylist()[-1]
    record(store, [said(2, "x", "reject", reviewer="bob")], after=latest)
    assert ids(store) == ["d-1", "d-2"]
    assert standing(read_reviews(store))[content("x")].verb == "reject"


def test_the_view_says_what_the_objects_say(store, monkeypatch):
    monkeypatch.setattr(object_log, "_MAX_LOOSE_OBJECTS", 2)
    for number in range(5):
        record(store, [said(number, f"i{number}", "accept")])
    whole = read_reviews(store)
    assert store.exists(keys.REVIEWS_VIEW)
    assert read_reviews(store).equals(whole)
    store.write_bytes(keys.REVIEWS_VIEW, b"no table")
    assert read_reviews(store).equals(whole)


def test_reviews_are_kept_and_their_view_is_derived():
    assert kind_of(keys.review_batch("r-1")) == "kept"
    assert kind_of(keys.REVIEWS_VIEW) == "derived"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"verb": "maybe"}, "expected one of"),
        ({"verb": "relabel"}, "names the true label"),
        ({"verb": "accept", "true_label": "dog"}, "names the true label"),
        ({"verb": "accept", "reviewer": ""}, "reviewer of 0 characters"),
    ],
)
def test_what_is_no_decision_is_refused(wrong, says):
    given = {"reviewer": "ann", **wrong}
    with pytest.raises(DataError, match=says):
        Decision("d", pool="pool", image_id="x", content_hash=content("x"), label="cat", **given)
