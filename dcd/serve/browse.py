"""Collect what a store holds for people to look at: runs, champions, failures and refusals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import ObjectNotFound, ObjectUnreadable
from dcd.failures.registry import Registry, first_runs, read_registry
from dcd.gate import champions
from dcd.gate.champions import Champion
from dcd.gate.record import GateOutcome, read_record
from dcd.report.thumbnails import album
from dcd.runs.finished import RunEntry
from dcd.store import Store, keys
from dcd.store.requests import REQUESTS_AT_ONCE

MAX_RUNS = 100
MAX_BATCHES = 20
MAX_PICTURES = 24
MAX_REFUSALS = 500
_MAX_PICTURE_BYTES = 1_500_000


@dataclass(frozen=True)
class Figures:
    """Mean accuracies of one method over the seeds, as shares; None where there are none."""

    method: str
    debug_heldout: float | None
    test: float | None
    n_picks: float


@dataclass(frozen=True)
class RunView:
    """A run as its card tells it. `figures` are in the order of the run's methods.

    damage: why nothing can be told; None where all can.
    """

    run_id: str
    written: datetime
    verdict: tuple[str, ...]
    figures: tuple[Figures, ...]
    stages: tuple[Mapping[str, Any], ...]
    lineage: Mapping[str, Any]
    gate: GateOutcome | None
    damage: str | None = None

    def of(self, method: str) -> Figures | None:
        return next((row for row in self.figures if row.method == method), None)


@dataclass(frozen=True)
class BatchView:
    """Failures that were registered together. `pictures`: data URIs of some, with label and file.

    first_run: the first finished run that covered them; None while they wait.
    """

    batch: str
    registered: datetime
    n_failures: int
    labels: tuple[tuple[str, int], ...]
    pictures: tuple[tuple[str, str, str], ...]
    first_run: str | None


def view_run(store: Store, entry: RunEntry) -> RunView:
    """Read one run by its card. Raises StoreError if it has none."""
    key = keys.run_card(entry.run_id)
    card = store.read_json(key)
    record = read_record(store, entry.run_id)
    now, _ = champion_or_damage(store)
    promoted = now is not None and now.run_id == entry.run_id
    try:
        return RunView(
            run_id=entry.run_id,
            written=entry.written,
            verdict=tuple(card.get("verdict", ())),
            figures=_figures(card.get("metrics", ())),
            stages=tuple(card.get("stages", ())),
            lineage=card.get("lineage", {}),
            gate=None if record is None else GateOutcome(record, promoted),
        )
    except (AttributeError, KeyError, TypeError) as err:
        raise store.damaged(key, f"is no card of a run ({err!r})") from err


def champion_or_damage(store: Store) -> tuple[Champion | None, str | None]:
    """Read the champion for a page: a damaged one is told there, and hides nothing else."""
    try:
        return champions.current(store), None
    except ObjectUnreadable as err:
        return None, str(err)


def view_runs(store: Store, entries: Sequence[RunEntry]) -> list[RunView]:
    """Read several runs; those that vanish meanwhile are left out, damaged ones say so."""

    def view(entry: RunEntry) -> RunView | None:
        try:
            return view_run(store, entry)
        except ObjectNotFound:
            return None
        except ObjectUnreadable as err:
            return RunView(entry.run_id, entry.written, (), (), (), {}, None, damage=str(err))

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        return [found for found in requests.map(view, entries) if found is not None]


def view_batches(store: Store, registry: Registry) -> list[BatchView]:
    """Read the latest batches, the newest first, with some pictures of each."""
    first_run = first_runs(store)
    names = list(dict.fromkeys(reversed(registry.failures["batch"].to_pylist())))
    views = []
    for batch in names[:MAX_BATCHES]:
        rows = registry.failures.filter(pc.equal(registry.failures["batch"], batch))
        counts = rows["label"].value_counts().to_pylist()
        labels = sorted(((c["values"], c["counts"]) for c in counts), key=lambda c: (-c[1], c[0]))
        views.append(
            BatchView(
                batch,
                rows["registered"][0].as_py(),
                rows.num_rows,
                tuple(labels),
                _pictures(store, batch, rows.slice(0, MAX_PICTURES)),
                first_run.get(batch),
            )
        )
    return views


def refusals(registry: Registry) -> list[dict[str, Any]]:
    """Return refused failures, the latest first: uri, image_id, label, stage, reason, seen."""
    rows = registry.rejects().sort_by([("seen", "descending"), ("uri", "ascending")])
    return rows.slice(0, MAX_REFUSALS).to_pylist()


def waiting(store: Store) -> int:
    """Count the registered failures that no finished run of any name has covered."""
    registry = read_registry(store)
    covered = pa.array(list(first_runs(store)), pa.string())
    return pc.sum(pc.invert(pc.is_in(registry.failures["batch"], value_set=covered))).as_py() or 0


def _pictures(store: Store, batch: str, rows: pa.Table) -> tuple[tuple[str, str, str], ...]:
    table = store.read_table(keys.failure_batch(batch), ["image_id", "image"])
    of = dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    ids = rows["image_id"].to_pylist()
    shown = album(ids, lambda wanted: {i: of[i] for i in wanted if i in of}, _MAX_PICTURE_BYTES)
    return tuple(
        (shown.uris[row["image_id"]], row["label"], row["uri"])
        for row in rows.to_pylist()
        if row["image_id"] in shown.uris
    )


def _figures(metrics: Sequence[Mapping[str, Any]]) -> tuple[Figures, ...]:
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in metrics:
        if row["mode"] is None:
            values[row["method"]][row["split"]].append(row["accuracy"])
            values[row["method"]]["picks"].append(row["n_picks"])
    return tuple(
        Figures(
            method,
            _mean(of["debug_heldout"]),
            _mean(of["test"]),
            _mean(of["picks"]) or 0.0,
        )
        for method, of in values.items()
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
