"""Train and judge the rounds of a goal: their cells, and what each is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.cell import CellInfo, CellPlan, parts_of
from dcd.cells.methods import Method, methods
from dcd.config import GoalConfig, RunConfig, Split
from dcd.evaluation.round_figures import RoundFigures
from dcd.gate.decision import LEVEL, decide
from dcd.index.info import IndexInfo
from dcd.report.record import RoundsRecord
from dcd.rounds.metric import goal_metric
from dcd.rounds.picks import RoundPicks, read_ledger
from dcd.rounds.plan import FinishedRound, Rounds, after_training, chosen_words, stop_words
from dcd.runs.cell_tables import cell_predictions
from dcd.runs.grouped import groups_of_run, with_groups
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store

Splits = Mapping[Split, SplitInfo]
Picks = Mapping[int, RoundPicks]  # by seed


@dataclass(frozen=True)
class RoundCells:
    """The cells of one round and those of `none`, one a seed each, and how they were planned."""

    round: Mapping[int, CellInfo]
    none: Mapping[int, CellInfo]
    plans: tuple[CellPlan, ...]


def plan_round_cells(
    config: RunConfig,
    pool: Source,
    indexes: Mapping[int, IndexInfo],
    splits: Mapping[int, Splits],
    picks: Picks,
    start_digest: str | None,
) -> tuple[CellPlan, ...]:
    """Plan `none` and the round's model for every seed; `none` is trained once for all rounds.

    indexes: what each seed searches.
    """
    return tuple(
        replace(
            CellPlan.of(
                config,
                method,
                seed,
                pool,
                indexes[seed],
                splits[seed],
                picks[seed].info,
                start_digest,
            ),
            keeps_out_of_fold=method.name == "selected",
        )
        for seed in config.seeds
        for method in _two_methods(config)
    )


def _two_methods(config: RunConfig) -> list[Method]:
    return [method for method in methods(config) if method.name in ("none", "selected")]


def round_cells(plans: Sequence[CellPlan], cells: Sequence[CellInfo]) -> RoundCells:
    """Put the cells in order that came of the plans."""
    by_method: dict[str, dict[int, CellInfo]] = {"none": {}, "selected": {}}
    for plan, cell in zip(plans, cells, strict=True):
        by_method[plan.method.name][plan.seed] = cell
    return RoundCells(by_method["selected"], by_method["none"], tuple(plans))


def judge_round(
    store: Store,
    config: RunConfig,
    rounds: Rounds,
    splits: Mapping[int, Splits],
    picks: Picks,
    cells: RoundCells,
) -> Rounds:
    """Add a trained round to those before it, and decide whether it was the last.

    Its model is held against `none` of the same run, not against the champion: so a rerun, before
    or after a promotion, stops where the first one did. The gate asks about the champion later.
    """
    goal = config.goal
    assert goal is not None
    groups = groups_of_run(store, config, splits)
    number = len(rounds.finished) + 1
    nothing = RoundFigures(0, 0, 0, 0, 0, 0, 0, 0, holds=True)
    of_none, of_round = (
        {
            seed: with_groups(cell_predictions(store, cell.id, name), groups)
            for seed, cell in found.items()
        }
        for name, found in (("none", cells.none), (f"round {number}", cells.round))
    )
    none = _figures(goal, nothing, of_none)
    asked, new, taken = (
        float(np.mean([getattr(of_seed, name) for of_seed in picks.values()]))
        for name in ("n_asked", "n_new", "n_taken")
    )
    seed = config.seeds[0]
    holds = _holds(config, goal, of_none[seed], of_round[seed])
    base = RoundFigures(number, asked, new, taken, 0, 0, 0, 0, holds)
    ids = {seed: cell.id for seed, cell in cells.round.items()}
    finished = FinishedRound(
        _figures(goal, base, of_round), dict(picks), ids, parts_of(cells.plans)
    )
    return after_training(goal, rounds, none, finished)


def _figures(
    goal: GoalConfig, base: RoundFigures, predictions: Mapping[int, pa.Table]
) -> RoundFigures:
    """Fill in the figures of one model, means over seeds."""

    def of_split(table: pa.Table, split: Split) -> pa.Table:
        return table.filter(pc.equal(table["split"], split))

    def accuracy(split: Split) -> float:
        shares = []
        for table in predictions.values():
            rows = of_split(table, split)
            shares.append(pc.mean(pc.equal(rows["label"], rows["predicted"])).as_py())
        return float(np.mean(shares))

    metrics = [goal_metric(goal, of_split(table, "debug_val")) for table in predictions.values()]
    return replace(
        base,
        metric=float(np.mean(metrics)),
        debug_val=accuracy("debug_val"),
        debug_heldout=accuracy("debug_heldout"),
        test=accuracy("test"),
    )


def _holds(config: RunConfig, goal: GoalConfig, none: pa.Table, of_round: pa.Table) -> bool:
    """Whether test is not worse and the guards hold: the first seed's model, at a round's level."""
    gate = config.gate
    if gate.policy == "off":
        return True
    decision = decide(none, of_round, gate.margin_points / 100, LEVEL / goal.rounds, gate.guards)
    return decision.test.passed and all(guard.passed for guard in decision.guards)


def rounds_record(config: RunConfig, rounds: Rounds, n_reviewed: int) -> RoundsRecord:
    """What a report says of the rounds. n_reviewed: images of the pool that people decided on."""
    goal = config.goal
    assert goal is not None
    sentences = [stop_words(goal, rounds), chosen_words(rounds, len(config.seeds))]
    if n_reviewed:
        sentences.append(
            f"What people decided on {n_reviewed:,} images of the pool counts in every round; "
            "with a goal no rounds without reviews run beside it."
        )
    assert rounds.stopped is not None
    chosen = rounds.chosen.figures.number
    return RoundsRecord(goal.words, rounds.figures, chosen, rounds.stopped, tuple(sentences))


def ledger_of(store: Store, rounds: Rounds) -> pa.Table:
    """What was taken in which round for which failure: `seed` beside schemas.LEDGER."""
    parts = []
    for seed, picks in rounds.finished[-1].picks.items():
        table = read_ledger(store, picks.info.id)
        seeds = pa.repeat(pa.scalar(seed, pa.int64()), table.num_rows)
        parts.append(table.add_column(0, "seed", seeds))
    return pa.concat_tables(parts)
