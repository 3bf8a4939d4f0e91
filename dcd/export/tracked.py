"""Describe a finished run as experiment trackers show it: parameters, metrics, tags and files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from dcd.evaluation.stats import Interval
from dcd.evaluation.summary import MethodSummary, outcomes, score_of, summary_rows
from dcd.gate.champions import history
from dcd.gate.record import GateOutcome, read_record
from dcd.runs.finished import run_config
from dcd.runs.tables import read_table
from dcd.store import Store, keys

RUN_ID, STORE = "dcd.run_id", "dcd.store"  # the tags that a run is found again by
FIGURE = "trade-off.svg"


@dataclass(frozen=True)
class TrackedRun:
    """A run for a tracker. metrics: shares and counts by `METHOD/WHAT`; note: Markdown.

    figure: of the trade-off, SVG. began, ended: of the work of its latest start, which may have
    reused most.
    """

    run_id: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    figure: str
    began: datetime
    ended: datetime


def describe_run(store: Store, run_id: str) -> TrackedRun:
    """Bring together what a tracker shows of a finished run; nothing is written."""
    from dcd.report import figures  # imports matplotlib

    config = run_config(store, run_id)
    card: dict[str, Any] = json.loads(store.read_bytes(keys.run_card(run_id)))
    ended = datetime.fromisoformat(card["created"])
    seconds = sum(stage["seconds"] for stage in card["stages"])
    gate = _gate(store, run_id)
    predictions = read_table(store, run_id, "predictions")
    rows = summary_rows(predictions, read_table(store, run_id, "metrics"))
    said = [*card["verdict"], *([] if gate is None else gate.sentences)]
    return TrackedRun(
        run_id=run_id,
        parameters=dict(flat(config)),
        metrics=_metrics(predictions, rows),
        tags={
            RUN_ID: run_id,
            STORE: place_of(store),
            "mlflow.source.name": "dcd run",
            "dcd.name": config.name,
            "dcd.version": card["lineage"]["code_version"],
            "dcd.gate": "not_judged" if gate is None else gate.status,
        },
        note="\n".join(f"- {sentence}" for sentence in said),
        figure=figures.picture(rows),
        began=ended - timedelta(seconds=seconds),
        ended=ended,
    )


def write_files(store: Store, tracked: TrackedRun, folder: Path) -> None:
    """Write report, cards, trade-off figure and models into `folder`, as a tracker keeps them."""
    run_id = tracked.run_id
    for key in (keys.run_report(run_id), keys.run_card(run_id), keys.run_card_text(run_id)):
        _copy(store, key, folder / key.rpartition("/")[2])
    (folder / FIGURE).write_text(tracked.figure, encoding="utf-8")
    models = keys.run_models(run_id)
    for key in store.keys_under(models):
        _copy(store, key, folder / "model" / key.removeprefix(f"{models}/"))


def place_of(store: Store) -> str:
    """Name a store alike from every folder."""
    return str(Path(store.root).absolute()) if store.is_local else store.url


def flat(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a config says by dotted names, without what it leaves out when it is written.

    Names are those of the config's models; whatever users name (classes, columns) is in the values.
    """
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and all(isinstance(v, BaseModel) for v in value.values()):
            for key, one in value.items():
                yield from flat(one, f"{prefix}{name}.{key}.")
        elif value is not None:
            for told in model.model_dump(mode="json", include={name}).values():
                yield f"{prefix}{name}", told if isinstance(told, str) else json.dumps(told)


def _gate(store: Store, run_id: str) -> GateOutcome | None:
    record = read_record(store, run_id)
    if record is None:
        return None
    promoted = any(row.champion.run_id == run_id for row in history(store))
    return GateOutcome(record, promoted)


def _metrics(predictions: pa.Table, rows: Sequence[MethodSummary]) -> dict[str, float]:
    has_val = "debug_val" in predictions["split"].to_pylist()
    found: dict[str, float] = {}
    # What a reader looks for first: `selected`, then what it is compared with.
    for row in sorted(rows, key=lambda row: row.role != "selected"):
        scores = {"debug_heldout": row.debug_heldout, "test": row.test}
        if has_val:
            scores["debug_val"] = score_of(outcomes(predictions, row.method, "debug_val"), None)
        for split, score in scores.items():
            found |= _interval(f"{row.method}/{split}_accuracy", score.accuracy)
        counted = {"n_picks": row.n_picks, "label_precision": row.label_precision}
        found |= {f"{row.method}/{k}": float(v) for k, v in counted.items() if v is not None}
    return found


def _interval(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _copy(store: Store, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(store.read_bytes(key))
