"""Find what is finished in a store: runs that have a report, comparisons that have a table."""

from dataclasses import dataclass
from datetime import datetime

from dcd.config import RunConfig, parse_config
from dcd.errors import DataError, ObjectNotFound
from dcd.store import Store, keys


@dataclass(frozen=True)
class RunEntry:
    """A finished run as it is listed.

    Attributes:
        run_id: the run's name and a hash of what it was made from.
        written: when its report was written, in UTC.
    """

    run_id: str
    written: datetime


def list_runs(store: Store) -> list[RunEntry]:
    """List the runs with a report, the newest first."""
    written = finished(store, keys.RUNS, keys.RUN_LAST)
    found = [RunEntry(run_id, at) for run_id, at in written.items()]
    return sorted(found, key=lambda entry: (entry.written, entry.run_id), reverse=True)


def find_run(store: Store, run_id: str) -> RunEntry | None:
    """Find a run with a report, without looking at any other; None where there is none."""
    written = finished(store, f"{keys.RUNS}/{run_id}", keys.RUN_LAST)
    return RunEntry(run_id, written[run_id]) if run_id in written else None


def finished(store: Store, folder: str, last: str) -> dict[str, datetime]:
    """Return when the object that goes last was written, by the id of the run or the comparison."""
    return {
        key.split("/")[1]: written
        for key, written in store.published_at(folder).items()
        if key.count("/") == 2 and key.endswith(f"/{last}")
    }


def last_config(store: Store) -> RunConfig:
    """Read the config of the newest run. Raises DataError if there is none."""
    runs = list_runs(store)
    if not runs:
        raise DataError(f"{store.url}: holds no finished run; give the config with --config")
    return run_config(store, runs[0].run_id)


def run_or_newest(store: Store, run_id: str | None) -> str:
    """Return the id of a finished run; None: the newest. Raises DataError if there is none such."""
    runs = [entry.run_id for entry in list_runs(store)]
    if not runs:
        raise DataError(f"{store.url}: holds no finished run; `dcd run` makes one")
    if run_id is not None and run_id not in runs:
        raise DataError(f"{store.url}: has no finished run {run_id}; the newest is {runs[0]}")
    return run_id or runs[0]


def run_config(store: Store, run_id: str) -> RunConfig:
    """Read the config of a finished run."""
    key = keys.run_config(run_id)
    return parse_config(store.read_json(key), store.uri(key))


def read_parts(store: Store, key: str) -> set[str] | None:
    """Read what a run or a comparison says it is a view of, in its object of that key.

    None where it does not say, as of an older version. Raises ObjectUnreadable if that is damaged.
    """
    try:
        found = store.read_json(key)
    except ObjectNotFound:
        return None
    if isinstance(found, dict):  # a bare list, as earlier versions wrote it
        found = found.get("parts")
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise store.damaged(key, f"expected a list of keys, found {found!r:.80}")
    return set(found)
