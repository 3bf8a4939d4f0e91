"""Check all objects of a store, set damaged ones aside, back up what nothing can make again."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from dcd.errors import DataError, ObjectFault, ObjectNotFound
from dcd.progress import live
from dcd.store import keys, parquet
from dcd.store.checksums import unsealed
from dcd.store.healing import set_aside
from dcd.store.kinds import Kind, kind_of
from dcd.store.object_store import Store
from dcd.store.requests import REQUESTS_AT_ONCE

_KEPT_BELOW = (
    *(keys.FAILURE_BATCHES, keys.FAILURE_RECEIPTS, keys.covered_failures()),
    *(keys.REVIEW_BATCHES, keys.FORGOTTEN, keys.CHAMPION_CHANGES),
)
_NOTHING = "holds no object; name a store, a folder or s3://bucket/prefix"
_UNCHECKED = (f"{keys.FAILURES_INBOX}/", f"{keys.DAMAGED}/", f"{keys.PROBES}/")


@dataclass(frozen=True)
class CheckedObject:
    """An object that was looked at. fault: why it is not whole; None where it is.

    is_sealed: whether it has a checksum; None where that was not looked at.
    """

    key: str
    n_bytes: int
    is_sealed: bool | None
    fault: str | None

    @property
    def kind(self) -> Kind:
        return kind_of(self.key)


def verify(store: Store, *, deep: bool = False) -> list[CheckedObject]:
    """Check all objects of a store, by key.

    Without `deep` of Parquet the footer alone is read, and every byte of all else. The inbox and
    what was set aside are not looked at. Raises DataError where there is nothing: nobody means to
    check that.
    """
    with live.stage("list objects"):
        every = list(store.objects_under())
        found = [o for o in every if not o.key.startswith(_UNCHECKED)]
    if not every:
        raise DataError(f"{store.url}: {_NOTHING}")
    with (
        live.stage("check", len(found), "objects") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers,
    ):
        checks = readers.map(lambda o: _check(store, o.key, o.n_bytes, deep), found)
        checked = [one for one in stage.each(checks) if one is not None]
        stage.outcome = f"{len(checked):,} objects checked"
    return checked


def repair(store: Store, checked: Iterable[CheckedObject]) -> list[str]:
    """Set aside the damaged objects that a run makes again; returns their keys."""
    mended: list[str] = []
    for one in checked:
        if one.fault is not None and one.kind == "derived" and store.exists(one.key):
            fault = ObjectFault(one.fault, store.uri(one.key))
            mended += [each.key for each in set_aside(store, fault, ())]
    return mended


def backup(store: Store, to: Store) -> list[str]:
    """Copy what nothing can make again, and return the keys that were copied.

    What lies there already with the same bytes is left. Raises ObjectUnreadable for a damaged
    object: it never replaces a good copy; DataError where no store is.
    """
    kept = _kept(store)
    _refuse_none(store, kept)
    with live.stage("compare", len(kept), "objects") as stage:
        found = [key for key in stage.each(kept) if _differs(store, to, key)]
    return _copy(store, to, found)


def restore(store: Store, backed_up: Store) -> list[str]:
    """Copy back what is missing or damaged here, and return the keys. All else stays as it is.

    Raises DataError where no backup is.
    """
    kept = _kept(backed_up)
    _refuse_none(backed_up, kept)
    with live.stage("check", len(kept), "objects") as stage:
        missing = [key for key in stage.each(kept) if not _is_whole(store, key)]
    return _copy(backed_up, store, missing)


def _refuse_none(store: Store, kept: list[str]) -> None:
    """Raise DataError for a place where nothing was ever written: a name with a slip."""
    if not kept and next(iter(store.objects_under()), None) is None:
        raise DataError(f"{store.url}: {_NOTHING}")


def _copy(source: Store, to: Store, found: list[str]) -> list[str]:
    # The champion goes last: what it points at in the history is there then.
    ordered = sorted(found, key=lambda key: (key == keys.CHAMPION, key))
    with live.stage("copy", len(ordered), "objects") as stage:
        for key in stage.each(ordered):
            to.write_raw(key, _whole_bytes(source, key))
    return ordered


def _whole_bytes(store: Store, key: str) -> bytes:
    """An object as it lies there, read once: what is checked is what is copied."""
    data = store.read_raw(key)
    with store.reading(key):
        if key.endswith(".parquet"):
            parquet.check(pa.BufferReader(data))
        else:
            unsealed(key, data)
    return data


def _kept(store: Store) -> list[str]:
    # Not all of failures/: the inbox may hold any number of files.
    found = [key for prefix in _KEPT_BELOW for key in store.keys_under(prefix)]
    found += [keys.CHAMPION] if store.exists(keys.CHAMPION) else []
    return [key for key in found if kind_of(key) == "kept"]


def _differs(store: Store, to: Store, key: str) -> bool:
    return not to.exists(key) or to.read_raw(key) != store.read_raw(key)


def _is_whole(store: Store, key: str) -> bool:
    try:
        store.check(key)
    except ObjectFault:
        return False
    return True


def _check(store: Store, key: str, n_bytes: int, deep: bool) -> CheckedObject | None:
    try:
        if deep or not key.endswith(".parquet"):
            return CheckedObject(key, n_bytes, store.check(key), None)
        store.read_schema(key)
    except ObjectNotFound:  # deleted meanwhile
        return None
    except ObjectFault as err:
        return CheckedObject(key, n_bytes, None, str(err))
    return CheckedObject(key, n_bytes, None, None)
