import logging

import pytest

from dcd import __version__
from dcd.errors import StoreError
from dcd.store import Store, keys, store_format
from dcd.store.kinds import kind_of
from dcd.store.store_format import FORMAT, NOTES, StoreFormat, open_for_writing, open_store

NEWER = {"format": FORMAT + 1, "note": "vectors of another kind", "written_by": "dcd 9.1"}


def test_every_format_has_a_note():
    assert sorted(NOTES) == list(range(1, FORMAT + 1))


def test_a_store_says_its_format_once(tmp_path):
    store = open_for_writing(str(tmp_path))
    assert store_format.read_format(store) == StoreFormat(
        FORMAT, NOTES[FORMAT], f"dcd {__version__}"
    )
    before = store.objects_under()
    open_for_writing(str(tmp_path))
    assert store.objects_under() == before


@pytest.mark.parametrize("opened", [open_store, open_for_writing])
def test_a_newer_store_is_refused_by_name(tmp_path, opened):
    Store(str(tmp_path)).write_json(keys.STORE_FORMAT, NEWER)
    with pytest.raises(StoreError) as caught:
        opened(str(tmp_path))
    said = str(caught.value)
    assert str(tmp_path) in said
    assert f"has format {FORMAT + 1} (vectors of another kind), written by dcd 9.1" in said
    assert f"this is dcd {__version__}, which reads formats up to {FORMAT}" in said
    assert Store(str(tmp_path)).read_json(keys.STORE_FORMAT)["written_by"] == "dcd 9.1"


def test_a_store_that_says_nothing_is_of_the_first_format(tmp_path):
    Store(str(tmp_path)).write_bytes("runs/a/card.json", b"{}")
    assert store_format.read_format(open_store(str(tmp_path))) is None
    assert not Store(str(tmp_path)).exists(keys.STORE_FORMAT)  # looking writes nothing
    assert store_format.read_format(open_for_writing(str(tmp_path))) is not None


def test_an_older_store_gets_the_new_number(tmp_path, monkeypatch):
    open_for_writing(str(tmp_path))
    monkeypatch.setattr(store_format, "FORMAT", FORMAT + 1)
    monkeypatch.setitem(NOTES, FORMAT + 1, "newer")
    found = store_format.read_format(open_for_writing(str(tmp_path)))
    assert found is not None
    assert (found.format, found.note) == (FORMAT + 1, "newer")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "x"}', b'{"format": null}'])
def test_a_damaged_note_is_written_anew_and_told(tmp_path, data, caplog):
    Store(str(tmp_path)).write_raw(keys.STORE_FORMAT, data)
    caplog.set_level(logging.WARNING)
    store = open_for_writing(str(tmp_path))
    assert "written anew" in caplog.text
    assert store_format.read_format(store) is not None


def test_the_note_is_no_object_that_must_be_kept():
    assert kind_of(keys.STORE_FORMAT) == "derived"
