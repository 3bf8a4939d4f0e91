"""Set damaged objects aside and do the work again that makes them.

A derived object is a function of its key, so a run that meets a damaged or a missing one needs no
help: the object is moved below `damaged/`, what says that its stage is done goes with it, and the
stages run again. Those that are whole are found done, and cost a look.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from dcd.errors import ObjectFault, ObjectNotFound, ObjectUnreadable
from dcd.store import keys
from dcd.store.kinds import kind_of, marker_of
from dcd.store.object_store import Store
from dcd.store.requests import REQUESTS_AT_ONCE

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_TIMES = 2  # an object that is damaged as often is not damaged by chance


@dataclass(frozen=True)
class Mended:
    """An object that was missing or damaged and is made again, and why."""

    key: str
    why: str


def healed(store: Store, work: Callable[[tuple[Mended, ...]], T]) -> T:
    """Return what `work` gives; where it meets a damaged derived object, do it once more.

    work: is given what was set aside so far. Raises ObjectFault as `set_aside` does.
    """
    mended: tuple[Mended, ...] = ()
    while True:
        try:
            return work(mended)
        except ObjectFault as fault:
            mended += set_aside(store, fault, mended)


def set_aside(store: Store, fault: ObjectFault, before: Sequence[Mended]) -> tuple[Mended, ...]:
    """Take a damaged or missing derived object, and damaged ones beside it, out of the way.

    before: what was set aside already. Raises the fault if the object cannot be made again, or was
    made `MAX_TIMES` times already.
    """
    key = store.key_of(fault.uri or "")
    if key is None or kind_of(key) != "derived":
        raise fault
    if Counter(one.key for one in before)[key] >= MAX_TIMES:
        raise ObjectUnreadable(
            f"{fault}. It was made again {MAX_TIMES} times and is so each time: check the disk and "
            "the memory of this machine, and what it is made of"
        ) from fault
    found = [Mended(key, str(fault)), *_damaged_beside(store, key)]
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    for one in found:
        for gone in dict.fromkeys((one.key, *_markers(store, one.key))):
            _move(store, gone, f"{keys.DAMAGED}/{stamp}/{gone}")
        log.warning("set aside and made again: %s", one.why)
    return tuple(found)


def _damaged_beside(store: Store, key: str) -> list[Mended]:
    """What else is damaged in the same folder: it seldom comes alone, and each costs a round."""
    beside = [other for other in store.keys_under(key.rpartition("/")[0]) if other != key]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers:
        found = readers.map(lambda other: _checked(store, other), beside)
        return [one for one in found if one is not None]


def _checked(store: Store, key: str) -> Mended | None:
    try:
        store.check(key)
    except ObjectNotFound:
        return None
    except ObjectUnreadable as err:
        return Mended(key, str(err))
    return None


def _markers(store: Store, key: str) -> list[str]:
    """What says that a stage is done which made `key`: of an index, also those appended to it."""
    marker = marker_of(key)
    if not marker.startswith(f"{keys.INDEXES}/") or not marker.endswith("/index.json"):
        return [marker]
    prefix = marker.rpartition("/")[0]
    of_pool, _, index_id = prefix.rpartition("/")
    found = [marker]
    for info in store.keys_under(of_pool):
        if info.count("/") != marker.count("/") or not info.endswith("/index.json"):
            continue
        try:
            segments = store.read_json(info)["segments"]
        except (ObjectFault, KeyError, TypeError):
            continue  # it says so itself where it is asked for
        if index_id in segments:
            found.append(info)
    return found


def _move(store: Store, key: str, to: str) -> None:
    try:
        store.write_raw(to, store.read_raw(key))
    except ObjectNotFound:
        return
    store.delete(key)
