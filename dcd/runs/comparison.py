"""Compare many arms over the same images, in tables and figures, with statistics.

Every arm is compared with the reference on the same images: the interval of the difference
resamples seeds, then images as pairs, and p-values are corrected for the number of arms (Holm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.cell import CellInfo
from dcd.config import ComparisonConfig, Split
from dcd.evaluation.stats import holm, paired_p_value
from dcd.evaluation.summary import (
    MethodSummary,
    Outcomes,
    outcomes,
    summary_of,
)
from dcd.runs.cell_tables import cell_metrics, cell_predictions
from dcd.runs.grouped import groups_of_run, with_groups
from dcd.sources.source import Source, fetch_shown
from dcd.splits.label_table import read_truth
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas

_SHOWN: tuple[Split, Split] = ("debug_heldout", "test")
_SHEET_FAILURES = 8
_SHEET_PICKS = 10


@dataclass(frozen=True)
class Arm:
    """One method of a comparison, by the name it has in tables. encoder, k: None for baselines."""

    name: str
    encoder: str | None
    strategy: str
    k: int | None


@dataclass(frozen=True)
class ArmCell:
    """An arm at one seed. selection_id: None for arms that search nothing."""

    arm: Arm
    cell: CellInfo
    selection_id: str | None


@dataclass(frozen=True)
class ArmSummary:
    """An arm over all seeds; p_value against the reference on debug_heldout, p_holm corrected."""

    arm: Arm
    summary: MethodSummary
    p_value: float | None
    p_holm: float | None


@dataclass(frozen=True)
class ComparisonInfo:
    """A written comparison: where it is, and its table."""

    comparison_id: str
    folder: str
    table: str


def write_comparison(
    store: Store,
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    pool: Source,
    splits: Mapping[int, Mapping[Split, SplitInfo]],
    parts: Sequence[str],
) -> ComparisonInfo:
    """Write tables and figures below comparisons/{id}; the Markdown table goes last.

    splits: of every seed. parts: of the store, that it is a view of.
    """
    from dcd.runs import comparison_figures  # imports matplotlib

    comparison_id = f"{config.name}-{keys.digest(config, [c.cell.id for c in cells])}"
    groups = groups_of_run(store, config.run(), splits)
    predictions = [with_groups(_predictions(store, cell), groups) for cell in cells]
    metrics = arm_metrics(store, config, cells, predictions)
    summaries = summarise(config, cells, predictions, metrics)
    described = {"config": config.model_dump_json()}

    def write(name: str, data: bytes) -> None:
        store.write_bytes(keys.comparison(comparison_id, name), data)

    store.write_table(keys.comparison(comparison_id, "cells.parquet"), metrics, metadata=described)
    store.write_table(
        keys.comparison(comparison_id, "summary.parquet"),
        summary_table(summaries),
        metadata=described,
    )
    store.write_json(keys.comparison_parts(comparison_id), {"parts": list(parts)})
    write("config.json", config.model_dump_json(indent=2).encode())
    rows = [s.summary for s in summaries]
    write("trade_off.svg", comparison_figures.trade_off(rows).encode())
    points = [
        (f"{s.arm.encoder} {s.arm.strategy}", s.arm.k, s.summary.label_precision)
        for s in summaries
        if s.arm.k is not None and s.summary.label_precision is not None
    ]
    if points:
        write("label_precision.svg", comparison_figures.precision_against_k(points).encode())
    for encoder, selection_id in _first_searches(config, cells).items():
        errors = splits[config.base.seeds[0]]["error_sample"]
        sheet = retrieval_sheet(store, selection_id, pool, errors)
        write(f"retrieval-{encoder}.png", sheet)
    table = markdown(config, summaries)
    write(keys.COMPARISON_LAST, table.encode())
    return ComparisonInfo(comparison_id, store.uri(keys.comparison(comparison_id, "")), table)


def arm_metrics(
    store: Store,
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    predictions: Sequence[pa.Table],
) -> pa.Table:
    """Return schemas.METRICS of all cells, for all images and by mode; `model` names the arm.

    predictions: of each cell.
    """
    truth = read_truth(config.base.pool)
    parts = [
        cell_metrics(store, cell.cell.id, of_cell, truth)
        for cell, of_cell in zip(cells, predictions, strict=True)
    ]
    return schemas.conform(pa.concat_tables(parts), schemas.METRICS, "metrics")


def summarise(
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    predictions: Sequence[pa.Table],
    metrics: pa.Table,
) -> list[ArmSummary]:
    """Make one row an arm, in the order of `cells`. predictions: of each cell."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    every = pa.concat_tables(predictions)
    reference = _outcomes(every, config.reference)
    found: list[tuple[Arm, MethodSummary, float | None]] = []
    for arm in arms:
        is_reference = arm.name == config.reference
        own = _outcomes(every, arm.name)
        p_value = (
            None
            if is_reference
            else paired_p_value(
                own["debug_heldout"].correct,
                reference["debug_heldout"].correct,
                groups=own["debug_heldout"].groups,
            )
        )
        summary = summary_of(arm.name, own, None if is_reference else reference, metrics)
        found.append((arm, summary, p_value))
    tested = [p for _, _, p in found if p is not None]
    corrected = iter(holm(tested))
    return [
        ArmSummary(arm, summary, p, None if p is None else next(corrected))
        for arm, summary, p in found
    ]


def summary_table(summaries: Sequence[ArmSummary]) -> pa.Table:
    """Make one row an arm: names, accuracies with intervals, differences, p-values."""
    rows = []
    for s in summaries:
        row: dict[str, object] = {
            "method": s.arm.name,
            "encoder": s.arm.encoder,
            "strategy": s.arm.strategy,
            "k": s.arm.k,
            "n_seeds": s.summary.n_seeds,
            "n_picks": s.summary.n_picks,
            "label_precision": s.summary.label_precision,
        }
        for split, score in (("debug_heldout", s.summary.debug_heldout), ("test", s.summary.test)):
            gain = score.gain
            row |= {
                f"{split}_accuracy": score.accuracy.value,
                f"{split}_low": score.accuracy.low,
                f"{split}_high": score.accuracy.high,
                f"{split}_std": score.std,
                f"{split}_gain": None if gain is None else gain.value,
                f"{split}_gain_low": None if gain is None else gain.low,
                f"{split}_gain_high": None if gain is None else gain.high,
            }
        rows.append(row | {"p_value": s.p_value, "p_holm": s.p_holm})
    return pa.Table.from_pylist(rows)


def markdown(config: ComparisonConfig, summaries: Sequence[ArmSummary]) -> str:
    """Write the comparison as a Markdown table, and how to read it."""
    lines = [
        "| method | k | debug_heldout % | gain | test % | gain | right labels | images | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in summaries:
        one = s.summary
        right = "–" if one.label_precision is None else f"{100 * one.label_precision:.0f} %"
        cells = [
            s.arm.name,
            "–" if s.arm.k is None else str(s.arm.k),
            *_scores(one),
            right,
            "–" if one.n_picks is None else f"{one.n_picks:,.0f}",
            "–" if s.p_holm is None else _p(s.p_holm),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n_seeds, n_tested = summaries[0].summary.n_seeds, sum(s.p_value is not None for s in summaries)
    note = (
        f"Mean ± standard deviation over {n_seeds} seeds. Gain: difference to {config.reference} "
        "in points, with its 95 % interval from a paired bootstrap over seeds and images. p: of "
        f"the gain on debug_heldout, two-sided, corrected for {n_tested} comparisons (Holm)."
    )
    return "\n".join([*lines, "", note, ""])


def retrieval_sheet(
    store: Store, selection_id: str, pool: Source, error_sample: SplitInfo
) -> bytes:
    """Draw a PNG: a row a failure, the nearest images beside it, kept ones first; several modes."""
    neighbors = store.read_table(keys.selection_neighbors(selection_id))
    kept = neighbors.filter(neighbors["kept"])
    failures = store.read_table(keys.split(error_sample.id), ["image_id", "label", "shard", "mode"])
    order = failures.sort_by(
        [("label", "ascending"), ("mode", "ascending"), ("image_id", "ascending")]
    )
    ids = order["image_id"].to_pylist()
    step = max(1, len(ids) // _SHEET_FAILURES)
    chosen = ids[::step][:_SHEET_FAILURES]
    picks = {
        failure: kept.filter(pc.equal(kept["error_image_id"], failure))
        .sort_by("rank")
        .slice(0, _SHEET_PICKS)["image_id"]
        .to_pylist()
        for failure in chosen
    }
    wanted = pa.array(sorted({i for row in picks.values() for i in row}), pa.string())
    debug_train = store.read_table(keys.selection_picks(selection_id), ["image_id", "shard"])
    shown = debug_train.filter(pc.is_in(debug_train["image_id"], value_set=wanted))
    images = fetch_shown(store, [pool], shown)
    rows = failures.filter(pc.is_in(failures["image_id"], value_set=pa.array(chosen)))
    errors = fetch_shown(store, error_sample.sources, rows)
    label = dict(zip(failures["image_id"].to_pylist(), failures["label"].to_pylist(), strict=True))
    from dcd.runs import comparison_figures  # imports matplotlib

    return comparison_figures.sheet(
        [(label[f], errors.get(f), [images.get(i) for i in picks[f]]) for f in chosen]
    )


def _predictions(store: Store, cell: ArmCell) -> pa.Table:
    table = cell_predictions(store, cell.cell.id, cell.arm.name)
    return table.filter(pc.is_in(table["split"], value_set=pa.array(_SHOWN)))


def _outcomes(predictions: pa.Table, name: str) -> dict[Split, Outcomes]:
    return {split: outcomes(predictions, name, split) for split in _SHOWN}


def _first_searches(config: ComparisonConfig, cells: Sequence[ArmCell]) -> dict[str, str]:
    """For every encoder the selection of its first arm at the first seed."""
    found: dict[str, str] = {}
    for cell in cells:
        encoder = cell.arm.encoder
        if encoder in config.encoders and cell.cell.seed == config.base.seeds[0]:
            assert cell.selection_id is not None
            found.setdefault(encoder, cell.selection_id)
    return found


def _scores(row: MethodSummary) -> list[str]:
    found = []
    for score in (row.debug_heldout, row.test):
        spread = "" if score.std is None else f" ± {100 * score.std:.1f}"
        found.append(f"{100 * score.accuracy.value:.1f}{spread}")
        gain = score.gain
        found.append(
            "–"
            if gain is None
            else f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        )
    return found


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
