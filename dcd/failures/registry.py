"""Keep the registry of failures: pictures that the model gets wrong, as users report them.

The registry is a set of immutable objects, and its state is their union: `batches` hold the
registered images, `receipts` say which files were looked through. Batches are named by what they
hold and written before the receipt of their files. So a crash loses nothing (the files are looked
through again), and watchers that race register nothing twice: equal batches are one object, and of
a picture that stands in two batches the first counts.
"""

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import DataConfig
from dcd.errors import ObjectNotFound, ObjectUnreadable
from dcd.reviews.decisions import read_reviews
from dcd.reviews.standing import Correction, corrections
from dcd.sources.source import Source
from dcd.store import Store, keys
from dcd.store.kinds import remedy
from dcd.store.object_log import read_log
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.tables import schemas
from dcd.tables.rows import one_row_a_content

log = logging.getLogger(__name__)
SOURCE_ID = "failures"
_MAX_REMINDER = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Registry:
    """failures: schemas.FAILURES and `batch`, one row a picture. receipts: schemas.RECEIPTS."""

    failures: pa.Table
    receipts: pa.Table

    def seen(self) -> set[tuple[str, str]]:
        """Return (uri, etag) of the files that need not be looked through again."""
        columns = (self.receipts[name].to_pylist() for name in ("uri", "etag"))
        return set(zip(*columns, strict=True))

    def rejects(self) -> pa.Table:
        """Return the refused images, without those of files that have changed since."""
        latest = self.receipts.group_by("uri", use_threads=False).aggregate([("seen", "max")])
        at = pc.index_in(self.receipts["uri"], value_set=latest["uri"].combine_chunks())
        current = pc.equal(self.receipts["seen"], latest["seen_max"].combine_chunks().take(at))
        return self.receipts.filter(pc.and_(current, pc.is_valid(self.receipts["reason"])))


@dataclass(frozen=True)
class Coverage:
    """The batches that one finished run took its failures from."""

    run_id: str
    batches: tuple[str, ...]
    finished: str


@dataclass(frozen=True)
class Announced:
    """Which failures were announced last (`Pending.id`), how often, and when."""

    id: str
    times: int
    at: datetime


@dataclass(frozen=True)
class Pending:
    """Failures that no finished run of a name has covered."""

    batches: tuple[str, ...]
    n_failures: int

    @property
    def id(self) -> str:
        """The batch, or a digest of several."""
        return self.batches[0] if len(self.batches) == 1 else keys.digest(list(self.batches))


def registry_source(store_url: str) -> Source:
    """Return the registered failures as an image source: one shard a batch."""
    images = f"{store_url.rstrip('/')}/{keys.FAILURE_BATCHES}/*.parquet"
    return Source(SOURCE_ID, DataConfig(images=images, label_column="label"))


def check_batches(store: Store) -> list[str]:
    """Read all registered failures whole: nothing can make them again, so none is guessed.

    Returns their keys; none where no failures are registered. Raises ObjectUnreadable naming the
    first one that is damaged, ObjectNotFound naming one that a finished run has used and that is
    gone.
    """
    there = store.keys_under(keys.FAILURE_BATCHES)
    known = set(there)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        list(requests.map(store.check, there))
    for note in coverages(store):
        for key in map(keys.failure_batch, note.batches):
            if key not in known:
                raise ObjectNotFound(
                    f"{store.uri(key)}: is gone, and run {note.run_id} was made with its failures; "
                    f"{remedy(key)}. To go on without it, delete the notes that name it below "
                    f"{store.uri(keys.covered_failures())}",
                    store.uri(key),
                )
    return there


def read_registry(store: Store) -> Registry:
    """Read everything that is registered and everything that was refused; reads no image."""
    batches = read_log(
        store, keys.FAILURE_BATCHES, keys.FAILURES_VIEW, schemas.FAILURES, schemas.conform
    )
    receipts = read_log(
        store, keys.FAILURE_RECEIPTS, keys.RECEIPTS_VIEW, schemas.RECEIPTS, schemas.conform
    )
    return Registry(
        _first_of_each(batches.rename_columns([*schemas.FAILURES.names, "batch"])),
        receipts.select(schemas.RECEIPTS.names),
    )


def corrections_of_failures(store: Store) -> tuple[Correction, ...]:
    """Read what reviews say of the labels of registered failures."""
    rows = read_reviews(store)
    return corrections(rows.filter(pc.equal(rows["pool"], SOURCE_ID)))


def mark_covered(store: Store, name: str, run_id: str, batches: Collection[str]) -> None:
    """Note that a run is finished and which batches it covered: the last thing a run does."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    coverage = Coverage(run_id, tuple(sorted(batches)), now)
    store.write_json(keys.covered_failures(name, run_id), asdict(coverage))


def coverages(store: Store, name: str = "") -> list[Coverage]:
    """Return what the finished runs of a name, or of all, covered; the oldest first."""
    found = store.keys_under(keys.covered_failures(name))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers:
        every = list(readers.map(lambda key: _coverage(store, key), found))
    return sorted(every, key=lambda coverage: coverage.finished)


def first_runs(store: Store, name: str = "") -> dict[str, str]:
    """Return by batch the first finished run of a name, or of all, that covered it."""
    first: dict[str, str] = {}
    for coverage in coverages(store, name):
        for batch in coverage.batches:
            first.setdefault(batch, coverage.run_id)
    return first


def pending(store: Store, name: str, registry: Registry) -> Pending:
    """Return what a run of this name would take that no finished one has."""
    covered = {batch for each in coverages(store, name) for batch in each.batches}
    left = registry.failures.filter(
        pc.invert(pc.is_in(registry.failures["batch"], value_set=pa.array(covered, pa.string())))
    )
    return Pending(tuple(sorted(set(left["batch"].to_pylist()))), left.num_rows)


def due(store: Store, name: str, waiting: Pending, remind_after: timedelta) -> bool:
    """Tell whether waiting failures are to be announced: not yet done, or the reminder is due."""
    if not waiting.batches:
        return False
    last = _last_announced(store, name)
    if last is None or last.id != waiting.id:
        return True
    wait = min(remind_after * 2 ** (last.times - 1), _MAX_REMINDER)
    return datetime.now(UTC) >= last.at + wait


def note_announced(store: Store, name: str, waiting: Pending) -> None:
    """Note that waiting failures were announced, and how often."""
    last = _last_announced(store, name)
    times = last.times + 1 if last is not None and last.id == waiting.id else 1
    noted = {"id": waiting.id, "times": times, "at": datetime.now(UTC).isoformat()}
    store.write_json(keys.announced_failures(name), noted, indent=None)


def _coverage(store: Store, key: str) -> Coverage:
    document = store.read_json(key)
    try:
        return Coverage(document["run_id"], tuple(document["batches"]), document["finished"])
    except (KeyError, TypeError) as err:
        raise store.damaged(key, f"names no covered batches ({err!r})") from err


def _last_announced(store: Store, name: str) -> Announced | None:
    """What was announced last; None if nothing was, or its note is damaged: told once more."""
    key = keys.announced_failures(name)
    try:
        found = store.read_json(key)
        return Announced(found["id"], int(found["times"]), datetime.fromisoformat(found["at"]))
    except ObjectNotFound:
        return None
    except (ObjectUnreadable, KeyError, TypeError, ValueError) as err:
        log.warning("%s: not read, so its failures are announced again (%s)", store.uri(key), err)
        return None


def _first_of_each(failures: pa.Table) -> pa.Table:
    """One row a picture, that of its earliest batch; in the order of their registration."""
    order = [("registered", "ascending"), ("batch", "ascending"), ("image_id", "ascending")]
    return one_row_a_content(failures.sort_by(order))
