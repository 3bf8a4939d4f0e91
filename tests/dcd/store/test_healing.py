"""A damaged derived object is set aside with what is beside it, and made again: twice, no more."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from dcd.errors import ObjectNotFound, ObjectUnreadable
from dcd.store import Store, keys
from dcd.store.healing import MAX_TIMES, Mended, healed

SELECTION = "0123456789ab"
PICKS, NEIGHBORS = keys.selection_picks(SELECTION), keys.selection_neighbors(SELECTION)
INDEX, APPENDED = (keys.index("pool", "encoder", name) for name in ("a" * 12, "b" * 12))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def put(store: Store, *found: str) -> None:
    for key in found:
        if not store.exists(key):
            store.write_table(key, pa.table({"n": list(range(2000))}))


def flip(store: Store, key: str) -> None:
    data = store.read_raw(key)
    store.write_raw(key, data[:99] + bytes([data[99] ^ 1]) + data[100:])


def reading(
    store: Store, *wanted: str, spoil: Callable[[], None] = lambda: None
) -> Callable[[tuple[Mended, ...]], tuple[Mended, ...]]:
    """Work that makes what is missing, the last one last, and reads all of it."""

    def work(mended: tuple[Mended, ...]) -> tuple[Mended, ...]:
        if not store.exists(wanted[-1]):
            put(store, *wanted)
        spoil()
        for key in wanted:
            store.read_table(key)
        return mended

    return work


def test_what_is_damaged_beside_it_is_found_in_the_same_round(store):
    put(store, NEIGHBORS, PICKS)
    flip(store, NEIGHBORS)
    flip(store, PICKS)
    mended = healed(store, reading(store, NEIGHBORS, PICKS))
    assert [one.key for one in mended] == [NEIGHBORS, PICKS]
    assert all(one.key in one.why for one in mended)
    aside = store.keys_under(keys.DAMAGED)
    assert {key.split("/", 2)[2] for key in aside} == {NEIGHBORS, PICKS}
    assert len({key.split("/")[1] for key in aside}) == 1


def test_what_says_that_a_stage_is_done_goes_along(store):
    put(store, NEIGHBORS, PICKS)
    store.delete(NEIGHBORS)
    mended = healed(store, reading(store, NEIGHBORS, PICKS))
    assert [one.key for one in mended] == [NEIGHBORS]
    (aside,) = store.keys_under(keys.DAMAGED)
    assert aside.endswith(PICKS)


def test_an_index_that_was_appended_to_a_damaged_one_goes_along(store):
    vectors = keys.index_vectors(INDEX, 0)
    put(store, vectors)
    store.write_json(keys.index_info(INDEX), {"segments": []})
    store.write_json(keys.index_info(APPENDED), {"segments": [INDEX.rpartition("/")[2]]})
    flip(store, vectors)

    def work(mended: tuple[Mended, ...]) -> None:
        if not mended:
            store.read_table(vectors)

    healed(store, work)
    gone = (vectors, keys.index_info(INDEX), keys.index_info(APPENDED))
    assert not any(map(store.exists, gone))


def test_a_disk_that_damages_whatever_is_written_ends_the_run(store):
    work = reading(store, PICKS, spoil=lambda: flip(store, PICKS))
    with pytest.raises(ObjectUnreadable, match=f"made again {MAX_TIMES} times .* check the disk"):
        healed(store, work)


@pytest.mark.parametrize("key", [keys.failure_batch("b"), keys.run_table("r", "metrics"), "mine"])
def test_what_no_run_makes_again_stays_where_it_is(store, key):
    put(store, key)
    flip(store, key)
    with pytest.raises(ObjectUnreadable, match=key):
        healed(store, reading(store, key))
    store.delete(key)
    with pytest.raises(ObjectNotFound):
        healed(store, lambda _: store.read_table(key))
    assert not store.keys_under(keys.DAMAGED)
