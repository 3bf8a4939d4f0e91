"""Disks that take no more: one clear error, nothing half-written, and on after room was made."""

import errno
import os

import pyarrow as pa
import pytest

from dcd.errors import StoreError, StoreRefused
from dcd.store import Store
from dcd.store.errors import no_room
from tests.small_disk import fill, litter, remount, small_disk

BIG = os.urandom(100_000)


def test_a_full_disk_takes_all_of_an_object_or_nothing(tmp_path):
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        store = Store(str(disk / "store"))
        store.write_bytes("a/kept.json", b"{}")
        (tmp_path / "built.parquet").write_bytes(BIG)
        noise = pa.table({"x": [os.urandom(1000) for _ in range(99)]})
        for write in (
            lambda: store.write_bytes("a/big.bin", BIG),
            lambda: store.write_bytes("a/kept.json", b'{"x": "' + b"y" * 100_000 + b'"}'),
            lambda: store.write_table("a/t.parquet", noise),
            lambda: store.publish_file(tmp_path / "built.parquet", "a/built.parquet"),
        ):
            with pytest.raises(StoreError, match=r"no space is left on the disk.*make room"):
                write()
        assert store.keys_under("") == ["a/kept.json"]
        assert store.read_bytes("a/kept.json") == b"{}"
        assert not litter(disk)
        remount(disk, "size=1m")
        store.write_bytes("a/big.bin", BIG)
        assert store.read_bytes("a/big.bin") == BIG


def write_all(store: Store, objects: dict[str, bytes]) -> None:
    for key, data in objects.items():
        store.write_bytes(key, data)


def test_no_more_files(tmp_path):
    with small_disk(tmp_path / "disk", "size=1m,nr_inodes=6") as disk:
        store = Store(str(disk))
        with pytest.raises(StoreError, match="no file may be added"):
            write_all(store, {f"{n}.json": b"{}" for n in range(9)})
        assert not litter(disk)


def test_what_is_full_is_read_and_deleted_from(tmp_path):
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        store = Store(str(disk))
        store.write_bytes("a.json", b"{}")
        fill(disk)
        assert store.read_bytes("a.json") == b"{}"
        store.delete("filler")
        store.probe()


def test_a_read_only_disk_is_read(tmp_path):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        store = Store(str(disk))
        store.write_bytes("a.json", b"{}")
        remount(disk, "ro")
        assert store.read_bytes("a.json") == b"{}"
        for change in (
            lambda: store.write_bytes("b.json", b"{}"),
            lambda: store.delete("a.json"),
            store.probe,
        ):
            with pytest.raises(StoreError, match="the disk is read-only"):
                change()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_what_a_disk_refuses_is_told_with_what_to_do(tmp_path, monkeypatch, number):
    """A quota and a file size limit too, which no test can set up."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for publishing in ("link", "replace"):
        monkeypatch.setattr(os, publishing, refused)
    with pytest.raises(StoreError) as caught:
        Store(str(tmp_path)).write_bytes("a.json", b"{}")
    assert not isinstance(caught.value, StoreRefused)
    assert "run the same command again" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not litter(tmp_path)


def test_other_errors_are_none_of_a_full_disk():
    assert no_room(ValueError()) is None
    assert no_room(PermissionError(errno.EACCES, "")) is None


def test_a_store_that_is_a_file(tmp_path):
    (tmp_path / "store").write_text("mine")
    store = Store(str(tmp_path / "store"))
    for use in (lambda: store.write_bytes("a.json", b"{}"), store.probe):
        with pytest.raises(StoreError, match="a file stands where a folder is needed"):
            use()
    assert (tmp_path / "store").read_text() == "mine"


def test_a_store_that_is_taken_away(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.write_bytes("a.json", b"{}")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no such object"):
        store.read_bytes("a.json")
    assert store.keys_under("") == []
