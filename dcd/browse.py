"""What a store holds, for people: its runs, newest first."""

import json
from dataclasses import dataclass
from datetime import datetime

from dcd import keys
from dcd.config import RunConfig, parse_config
from dcd.errors import DataError
from dcd.store import Store


@dataclass(frozen=True)
class RunEntry:
    """A finished run as it is listed: its id, and when its report was written."""

    run_id: str
    written: datetime


def list_runs(store: Store) -> list[RunEntry]:
    """The runs with a report, the newest first."""
    found = [
        RunEntry(key.split("/")[1], written)
        for key, written in store.published_at(keys.RUNS).items()
        if key.count("/") == 2 and key.endswith("/report.html")
    ]
    return sorted(found, key=lambda entry: (entry.written, entry.run_id), reverse=True)


def last_config(store: Store) -> RunConfig:
    """The config of the newest run. Raises DataError if there is none."""
    runs = list_runs(store)
    if not runs:
        raise DataError(f"{store.url}: holds no finished run; give the config with --config")
    document = json.loads(store.read_bytes(keys.run(runs[0].run_id, "config.json")))
    return parse_config(document, store.uri(keys.run(runs[0].run_id, "config.json")))
