"""Write a run: the tables of its cells brought together under one id, with lineage and report."""

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import dcd
from dcd.cells.cell import CellInfo
from dcd.config import RunConfig, Split
from dcd.evaluation.summary import MethodSummary, summary_rows
from dcd.failures.registry import read_registry
from dcd.gate.judge import foreseen, judge, settle
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows
from dcd.label_noise.pool_noise import right_share
from dcd.label_noise.pseudo_labels import read_pseudo_labels
from dcd.maps.draw import MapInfo, read_map
from dcd.report.card import card_json, card_markdown, metrics_json
from dcd.report.record import (
    GuessedPick,
    Lineage,
    PseudoLabelUse,
    ReviewEffect,
    RoundsRecord,
    RunRecord,
    StageCount,
)
from dcd.report.thumbnails import Picture
from dcd.report.verdict import verdict
from dcd.rounds.plan import Rounds
from dcd.runs.cell_tables import cell_metrics, cell_predictions
from dcd.runs.grouped import groups_of_run, with_groups
from dcd.runs.judged_rounds import ledger_of, rounds_record
from dcd.runs.origins import origins_json
from dcd.runs.since import since_champion
from dcd.selection.picks import targeted_picks
from dcd.selection.pool_gaps import pool_gaps
from dcd.selection.reviewed import Reviewed, read_reviewed, verified_picks
from dcd.selection.select import SelectionInfo
from dcd.sources.records import Shard
from dcd.sources.source import Source, fetch_shown
from dcd.splits.label_table import read_truth
from dcd.splits.shared import shared_pictures
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas


@dataclass(frozen=True)
class Evidence:
    """What the stages of a run made. `rejects` names (source id, shard) pairs that have some.

    parts: the cells, selections, indexes and splits of the store that the run is a view of.
    mended: in words, the objects that were found damaged or missing and were made again. reviewed:
    the reviews that count; unreviewed: the first seed's selection as it is without them. rounds:
    those of the config's goal, where it has one. map: of the first seed, where one is drawn.
    """

    pool: Source
    encoder_id: str
    index: IndexInfo
    shards: tuple[Shard, ...]
    rejects: tuple[tuple[str, str], ...]
    splits: Mapping[int, Mapping[Split, SplitInfo]]
    selections: Mapping[int, SelectionInfo]
    cells: tuple[CellInfo, ...]
    stages: tuple[StageCount, ...]
    parts: tuple[str, ...]
    mended: tuple[str, ...] = ()
    reviewed: Reviewed | None = None
    unreviewed: SelectionInfo | None = None
    rounds: Rounds | None = None
    map: MapInfo | None = None


@dataclass(frozen=True)
class RunInfo:
    """A written run: where its report is and what it says.

    Attributes:
        run_id: the config's name and a hash of all that the run was made from.
        report: address of the report, one HTML page.
        verdict: the result in sentences.
        rows: accuracies by method, as the report's table has them.
        gate: whether the model was promoted, and why, in sentences.
        mended: in words, what was found damaged or missing and was made again.
        tracked: where a tracker shows it, or why it does not; None without a tracker.
        rounds: what they came to and why they stopped; None where the config has no goal.
    """

    run_id: str
    report: str
    verdict: tuple[str, ...]
    rows: tuple[MethodSummary, ...]
    gate: tuple[str, ...]
    mended: tuple[str, ...] = ()
    tracked: str | None = None
    rounds: RoundsRecord | None = None


def write_run(store: Store, config: RunConfig, evidence: Evidence) -> RunInfo:
    """Collect metrics, predictions, picks, models and lineage below runs/{run_id}; pass the gate.

    All of it is there before the champion is replaced, so that nothing can fail afterwards. The
    report says what the gate will do; it is written anew in the rare case that another champion
    came in between.
    """
    run_id = f"{config.name}-{keys.digest(config, [cell.id for cell in evidence.cells])}"
    record = collect(store, config, evidence, run_id)
    first = evidence.selections[config.seeds[0]]
    picks = store.read_table(keys.selection_picks(first.id))
    record = replace(record, since=since_champion(store, record, picks))
    tables = {
        "error_sample": record.error_sample,
        "neighbors": record.neighbors,
        "debug_train": picks,
        "rejects": record.rejects,
        "predictions": record.predictions,
        "metrics": record.metrics,
    } | ({} if record.curve is None else {"curve": record.curve})
    if evidence.rounds is not None:
        tables["ledger"] = ledger_of(store, evidence.rounds)
    for cell in evidence.cells:
        if cell.method == "selected":
            _copy_model(store, cell, run_id)
    judged = judge(store, config, run_id, record.predictions, evidence.splits, evidence.encoder_id)
    described = {"config": config.model_dump_json(), "code_version": record.lineage.code_version}
    for name, table in tables.items():
        store.write_table(keys.run_table(run_id, name), table, metadata=described)
    store.write_bytes(keys.run_config(run_id), config.model_dump_json(indent=2).encode())
    made_of = origins_json(evidence.splits, evidence.selections)
    store.write_json(keys.run_parts(run_id), {"parts": all_parts(evidence), "seeds": made_of})
    gate_json = judged.model_dump_json(indent=2)
    store.write_bytes(keys.run_gate(run_id), gate_json.encode())
    store.write_bytes(keys.run_card(run_id), card_json(record, judged).encode())
    store.write_bytes(keys.run_card_text(run_id), card_markdown(record, judged).encode())
    planned = foreseen(store, config, run_id, judged)
    _write_report(store, evidence, replace(record, gate=planned))
    gated = settle(store, config, run_id, judged)
    record = replace(record, gate=gated)
    if gated != planned:
        _write_report(store, evidence, record)
    return RunInfo(
        run_id,
        store.uri(keys.run_report(run_id)),
        verdict(record),
        summary_rows(record.predictions, record.metrics),
        gated.sentences,
        evidence.mended,
        rounds=record.rounds,
    )


def all_parts(evidence: Evidence) -> tuple[str, ...]:
    """The parts of the run, of its rounds and of its map, each once."""
    of_map = () if evidence.map is None else (evidence.map.part,)
    of_rounds = () if evidence.rounds is None else evidence.rounds.parts
    return tuple(sorted({*evidence.parts, *of_rounds, *of_map}))


def import_report() -> None:
    """Import what writing a report takes a second to import: figures and statistics."""
    import scipy.special

    import dcd.report.page

    _ = scipy.special, dcd.report.page


def _write_report(store: Store, evidence: Evidence, record: RunRecord) -> None:
    from dcd.report.page import render  # imports matplotlib

    page = render(record, lambda shown: _image_bytes(store, evidence, record, shown))
    store.write_bytes(keys.run_report(record.run_id), page.encode())


def collect(store: Store, config: RunConfig, evidence: Evidence, run_id: str) -> RunRecord:
    """Read all that the report needs from the store."""
    truth = read_truth(config.pool)
    groups = groups_of_run(store, config, evidence.splits)
    predictions, metrics = [], []
    for cell in evidence.cells:
        table = with_groups(cell_predictions(store, cell.id, cell.method), groups)
        predictions.append(table)
        metrics.append(cell_metrics(store, cell.id, table, truth))
    every = pa.concat_tables(predictions)
    seed = config.seeds[0]
    neighbors = store.read_table(keys.selection_neighbors(evidence.selections[seed].id))
    right = right_share(store, evidence.index, evidence.splits[seed]["train"])
    return RunRecord(
        run_id=run_id,
        created=datetime.now(UTC),
        config=config,
        metrics=schemas.conform(pa.concat_tables(metrics), schemas.METRICS, "metrics"),
        predictions=every,
        error_sample=_failures(every, seed),
        neighbors=neighbors,
        rejects=_rejects(store, evidence, config.failures),
        lineage=Lineage(
            pool=evidence.pool.id,
            pool_version=keys.digest([[s.name, s.etag] for s in evidence.shards]),
            n_pool_images=evidence.index.n_rows,
            n_shards=len(evidence.shards),
            encoder_id=evidence.encoder_id,
            index_id=evidence.index.index_id,
            code_version=code_version(),
            pool_labels=None if right is None else str(right),
        ),
        stages=evidence.stages,
        curve=_curve(store, evidence),
        chosen=_chosen(store, evidence),
        mended=evidence.mended,
        review=_review(store, evidence, evidence.selections[seed]),
        rounds=_rounds(config, evidence),
        gaps=pool_gaps(store, evidence.index, evidence.splits[seed], evidence.selections[seed]),
        map=None if evidence.map is None else read_map(store, evidence.map.part),
        pseudo=_pseudo(store, evidence.index, evidence.selections[seed]),
        posteriors=_posteriors(store, evidence.index, neighbors),
        shared=tuple(shared_pictures(store, evidence.splits)),
    )


def read_metrics(store_url: str, run_id: str) -> list[dict[str, object]]:
    """Read the metrics of a finished run, as `metrics_json` gives them."""
    return metrics_json(Store(store_url).read_table(keys.run_table(run_id, "metrics")))


def code_version() -> str:
    """Return the package's version and, in a checkout, the commit that it is at."""
    home = Path(dcd.__file__).parent.parent
    if not (home / ".git").exists():
        return dcd.__version__
    asked = subprocess.run(
        ["git", "-C", str(home), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{dcd.__version__}+{asked.stdout.strip()}" if asked.returncode == 0 else dcd.__version__


def _curve(store: Store, evidence: Evidence) -> pa.Table | None:
    """The curves that `selected` was chosen from, one a seed."""
    parts = []
    for cell in evidence.cells:
        if cell.method == "selected":
            table = store.read_table(keys.cell_curve(cell.id))
            if "line" not in table.column_names:  # made when there was this one line only
                ends = pa.repeat(schemas.BETWEEN.join(("original", "fine-tuned")), table.num_rows)
                table = table.add_column(0, "line", ends)
            parts.append(table.append_column("seed", pa.repeat(cell.seed, table.num_rows)))
    curve = pa.concat_tables(parts) if parts else None
    return curve if curve is not None and curve.num_rows else None


def _chosen(store: Store, evidence: Evidence) -> tuple[str, ...]:
    """Which model `selected` is and why, seed by seed, where a recipe chose it."""
    found = []
    for cell in evidence.cells:
        if cell.method == "selected":
            described = store.read_metadata(keys.cell_predictions(cell.id))
            if described.get("chosen"):
                found.append(f"Seed {cell.seed}: {described['chosen']}.")
    return tuple(found)


def _rounds(config: RunConfig, evidence: Evidence) -> RoundsRecord | None:
    if evidence.rounds is None:
        return None
    of = evidence.reviewed
    n_reviewed = 0 if of is None else of.n_confirmed + of.n_relabelled + of.n_rejected
    return rounds_record(config, evidence.rounds, n_reviewed)


def _review(store: Store, evidence: Evidence, selected: SelectionInfo) -> ReviewEffect | None:
    """What reviews changed in the first seed's picks; None where none count."""
    reviewed, unreviewed = evidence.reviewed, evidence.unreviewed
    if reviewed is None or unreviewed is None:
        return None
    columns = ["image_id", "label"]
    now, before = (
        store.read_table(keys.selection_picks(of.id), columns) for of in (selected, unreviewed)
    )
    verified = verified_picks(now, read_reviewed(store, reviewed.id))
    pairs, were = ({(r["image_id"], r["label"]) for r in t.to_pylist()} for t in (now, before))
    return ReviewEffect(
        n_confirmed=reviewed.n_confirmed,
        n_relabelled=reviewed.n_relabelled,
        n_rejected=reviewed.n_rejected,
        n_verified_picks=int(verified.sum()),
        n_used_as_failures=selected.n_failing,
        n_new_picks=len(pairs - were),
        n_gone_picks=len(were - pairs),
    )


def _pseudo(store: Store, index: IndexInfo, selected: SelectionInfo) -> PseudoLabelUse | None:
    """What became of images without a label, and which of them were picked; None without them."""
    pseudo = index.pseudo
    if pseudo is None:
        return None
    columns = ["image_id", "label", "role", "posterior"]
    picks = store.read_table(keys.selection_picks(selected.id), columns)
    guessed = picks.filter(picks["posterior"].is_valid())
    targeted = targeted_picks(guessed).drop_columns("role").to_pylist()
    return PseudoLabelUse(
        min_posterior=pseudo.min_posterior,
        n_images=pseudo.n_images,
        n_labelled=pseudo.n_labelled,
        n_unsure=pseudo.n_unsure,
        n_known=pseudo.n_known,
        n_picks=guessed.num_rows,
        picks=tuple(
            GuessedPick(p["image_id"], p["label"], round(p["posterior"], 4)) for p in targeted
        ),
    )


def _posteriors(store: Store, index: IndexInfo, neighbors: pa.Table) -> dict[str, float]:
    """Of the neighbours that came without a label: how probable the one is that they have."""
    found = read_pseudo_labels(store, index)
    found = found.filter(pc.is_in(found["image_id"], value_set=pc.unique(neighbors["image_id"])))
    ids, posteriors = (found[name].to_pylist() for name in ("image_id", "posterior"))
    return dict(zip(ids, posteriors, strict=True))


def _failures(predictions: pa.Table, seed: int) -> pa.Table:
    """The error sample of a seed with what the failing model (`none`) made of it."""
    rows = predictions.filter(
        pc.and_(
            pc.and_(pc.equal(predictions["model"], "none"), pc.equal(predictions["seed"], seed)),
            pc.equal(predictions["split"], "error_sample"),
        )
    )
    return schemas.conform(rows, schemas.ERROR_SAMPLE, "error_sample")


def _rejects(store: Store, evidence: Evidence, with_failures: bool) -> pa.Table:
    empty = schemas.REJECTS.empty_table().append_column("shard", pa.array([], pa.string()))
    tables = [empty]
    for source_id, shard in evidence.rejects:
        found = store.read_table(keys.rejects(source_id, evidence.encoder_id, shard))
        found = found.replace_schema_metadata(None)
        tables.append(found.append_column("shard", pa.repeat(shard, found.num_rows)))
    if with_failures:
        tables.append(_refused(store).cast(empty.schema))
    return pa.concat_tables(tables)


def _refused(store: Store) -> pa.Table:
    """The refused failures of the registry, in the form of rejects; `shard` is the file."""
    rejects = read_registry(store).rejects()
    columns = {name: rejects[name] for name in schemas.REJECTS.names}
    return pa.table({**columns, "shard": rejects["uri"]})


def _image_bytes(
    store: Store, evidence: Evidence, record: RunRecord, shown: Collection[Picture]
) -> Mapping[Picture, bytes]:
    """Read the encoded images of failures and picks, each from the sources that hold it."""
    errors = evidence.splits[record.config.seeds[0]]["error_sample"]
    failures = store.read_table(keys.split(errors.id), ["image_id", "shard"])
    rows = pool_rows(store, evidence.index, pc.unique(record.neighbors["label"]))
    found = {
        "failure": fetch_shown(store, errors.sources, _among(failures, shown, "failure")),
        "pool": fetch_shown(store, [evidence.pool], _among(rows, shown, "pool")),
    }
    return {
        picture: found[picture.origin][picture.image_id]
        for picture in shown
        if picture.image_id in found[picture.origin]
    }


def _among(rows: pa.Table, shown: Collection[Picture], origin: str) -> pa.Table:
    """image_id and shard of the rows that are shown as pictures of that origin."""
    ids = sorted({picture.image_id for picture in shown if picture.origin == origin})
    wanted = pc.is_in(rows["image_id"], value_set=pa.array(ids, pa.string()))
    return rows.filter(wanted).select(["image_id", "shard"])


def _copy_model(store: Store, cell: CellInfo, run_id: str) -> None:
    """Copy a cell's model, which is read whole and checked; raises ObjectFault where it is not."""
    for name in (keys.MODEL_WEIGHTS, keys.MODEL_CONFIG):
        data = store.read_bytes(keys.cell_model(cell.id, name))
        store.write_bytes(f"{keys.run_model(run_id, cell.seed)}/{name}", data)
