"""A store is looked through; what nothing can make again is copied away and fetched back."""

import json

import pyarrow as pa
import pytest

from dcd.errors import ObjectUnreadable
from dcd.store import Store, keys
from dcd.store.parquet import encoded
from dcd.store.verify import backup, repair, restore, verify

BATCH = keys.failure_batch("b-1")
DERIVED = (keys.split("0123456789ab"), keys.selection_picks("0123456789ab"))


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path / "store"))
    for key in (*DERIVED, BATCH):
        store.write_table(key, pa.table({"n": list(range(2000))}))
    for key in (keys.CHAMPION, keys.champion_change("one")):
        store.write_bytes(key, json.dumps({"run_id": "a"}, indent=1).encode())
    store.write_bytes(f"{keys.FAILURES_INBOX}/red/broken.json", b"{")  # the users' own
    return store


def flip(store: Store, key: str) -> None:
    data = store.read_raw(key)
    store.write_raw(key, data[:99] + bytes([data[99] ^ 1]) + data[100:])


def faults(store: Store, deep: bool = True) -> list[str]:
    return [one.key for one in verify(store, deep=deep) if one.fault]


def test_a_whole_store_has_no_faults(store):
    checked = verify(store, deep=True)
    assert len(checked) == 5
    assert all(one.is_sealed and one.fault is None for one in checked)


def test_damage_is_found_and_what_is_derived_set_aside(store):
    flip(store, DERIVED[0])
    store.write_raw(BATCH, b"")
    assert faults(store, deep=False) == [BATCH]
    checked = verify(store, deep=True)
    assert faults(store) == [BATCH, DERIVED[0]]
    assert repair(store, checked) == [DERIVED[0]]
    assert faults(store) == [BATCH]  # nothing can make it again
    assert not store.exists(DERIVED[0])
    assert [key for key in store.keys_under(keys.DAMAGED) if key.endswith(DERIVED[0])]


def test_what_was_backed_up_comes_back_and_nothing_else_changes(store, tmp_path):
    elsewhere = Store(str(tmp_path / "backup"))
    kept = [BATCH, keys.champion_change("one"), keys.CHAMPION]
    assert sorted(backup(store, elsewhere)) == sorted(kept)
    assert backup(store, elsewhere) == []
    before = {key: store.read_raw(key) for key in kept}
    flip(store, BATCH)
    store.delete(keys.CHAMPION)
    assert restore(store, elsewhere) == [BATCH, keys.CHAMPION]
    assert {key: store.read_raw(key) for key in kept} == before
    assert restore(store, elsewhere) == []


def test_a_damaged_object_replaces_no_good_copy(store, tmp_path):
    elsewhere = Store(str(tmp_path / "backup"))
    backup(store, elsewhere)
    good = elsewhere.read_raw(BATCH)
    flip(store, BATCH)
    with pytest.raises(ObjectUnreadable, match=r"b-1\.parquet"):
        backup(store, elsewhere)
    assert elsewhere.read_raw(BATCH) == good


def test_all_that_nothing_can_make_again_is_backed_up_and_no_more(store, tmp_path):
    elsewhere = Store(str(tmp_path / "backup"))
    table = pa.table({"n": [1]})
    store.write_table(keys.failure_receipt("r-1"), table)
    store.write_table(keys.FAILURES_VIEW, table)
    store.write_bytes(keys.covered_failures("a", "a-1"), b"{}")
    store.write_bytes(keys.announced_failures("a"), b"{}")
    kept = [
        keys.failure_receipt("r-1"),
        keys.covered_failures("a", "a-1"),
        *(BATCH, keys.champion_change("one"), keys.CHAMPION),
    ]
    assert sorted(backup(store, elsewhere)) == sorted(kept)
    assert elsewhere.keys_under("") == sorted(kept)


@pytest.mark.parametrize("data", [b"", b"x" * 500])
def test_a_batch_of_an_older_version_is_copied_where_it_is_whole(store, tmp_path, data):
    elsewhere = Store(str(tmp_path / "backup"))
    plain = encoded(pa.table({"n": list(range(2000))}))
    store.write_raw(BATCH, plain)
    assert BATCH in backup(store, elsewhere)
    assert elsewhere.read_raw(BATCH) == plain
    store.write_raw(BATCH, data)
    with pytest.raises(ObjectUnreadable, match=r"b-1\.parquet"):
        backup(store, elsewhere)
    flip(elsewhere, BATCH)
    with pytest.raises(ObjectUnreadable, match=r"b-1\.parquet"):
        restore(store, elsewhere)
