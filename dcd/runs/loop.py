"""Run the loop of `debug-model` without Prefect: the same functions, one after the other.

For a notebook, a test, or a machine where no server may run. Nothing is retried, and one shard is
embedded after the other; results are the same objects under the same keys as those of `dcd run`.
"""

from collections.abc import Mapping
from functools import partial

from dcd.cells.cell import CellPlan, parts_of, run_cell
from dcd.cells.methods import UNREVIEWED, methods
from dcd.config import RunConfig, Split
from dcd.failures import registry
from dcd.index.info import IndexInfo
from dcd.maps.draw import draw_map
from dcd.rounds.picks import pick_round
from dcd.rounds.plan import Rounds, after_picking, plan_round
from dcd.runs.judged_rounds import judge_round, plan_round_cells, round_cells
from dcd.runs.run import Evidence, RunInfo, write_run
from dcd.runs.steps import embed_sources, gathered, index_of, with_unlabelled
from dcd.selection.reviewed import Reviewed, match_reviews
from dcd.selection.select import SelectionInfo, select
from dcd.sources.source import open_for_pool, source_of
from dcd.splits.split import SplitInfo
from dcd.store import Store
from dcd.store.healing import Mended, healed
from dcd.training.user_model import start_digest


def run(config: RunConfig) -> RunInfo:
    """Embed, index, select, train, judge and report; what the store has already is not done again.

    What is found damaged is made again.

    Args:
        config: the whole loop; `dcd.validate` tells first whether it can start.

    Returns:
        Where the report is, what it says, and what the gate decided.

    Raises:
        DCDError: with what went wrong, where, and what to do.
    """
    return healed(open_for_pool(config.store, config.pool), partial(_stages, config))


def _stages(config: RunConfig, mended: tuple[Mended, ...]) -> RunInfo:
    store = Store(config.store)
    pool = source_of(config.pool)
    embedded = embed_sources(store, config)
    given = index_of(store, config, embedded)
    splits = {seed: gathered(store, config, seed, embedded) for seed in config.seeds}
    indexes = {
        seed: with_unlabelled(store, config, given, of_seed["train"], embedded)
        for seed, of_seed in splits.items()
    }
    plans, selected = [], {}
    reviewed = {seed: match_reviews(store, index) for seed, index in indexes.items()}
    has_reviews = any(reviewed.values())
    rounds = None if config.goal is None else run_rounds(store, config, indexes, splits, reviewed)
    for seed in config.seeds:
        selections: dict[str, SelectionInfo] = {
            method.name: rounds.selected[seed]
            if rounds is not None and method.name == "selected"
            else select(
                store,
                pool,
                indexes[seed],
                splits[seed],
                method.selection,
                reviewed[seed] if method.reviewed else None,
            )
            for method in methods(config, has_reviews=has_reviews)
            if method.selection is not None
        }
        selected[seed] = selections["selected"]
        if seed == config.seeds[0]:
            unreviewed = selections.get(UNREVIEWED)
        plans += planned(config, seed, indexes[seed], splits[seed], selections)
    run_info = write_run(
        store,
        config,
        Evidence(
            pool=pool,
            encoder_id=embedded.encoder_id,
            index=indexes[config.seeds[0]],
            shards=embedded.shards[pool.id],
            rejects=embedded.rejects,
            splits=splits,
            selections=selected,
            cells=tuple(run_cell(store, plan) for plan in plans),
            stages=(),
            parts=parts_of(plans),
            mended=tuple(one.why for one in mended),
            reviewed=reviewed[config.seeds[0]],
            unreviewed=unreviewed,
            rounds=rounds,
            map=draw_map(
                store,
                indexes[config.seeds[0]],
                splits[config.seeds[0]],
                selected[config.seeds[0]].id,
                config.map,
            ),
        ),
    )
    if registry.SOURCE_ID in embedded.shards:
        covered = [shard.name for shard in embedded.shards[registry.SOURCE_ID]]
        registry.mark_covered(store, config.name, run_info.run_id, covered)
    return run_info


def run_rounds(
    store: Store,
    config: RunConfig,
    indexes: Mapping[int, IndexInfo],
    splits: Mapping[int, Mapping[Split, SplitInfo]],
    reviewed: Mapping[int, Reviewed | None],
) -> Rounds:
    """Pick, train and judge, round after round, until the goal's rounds stop."""
    goal, pool = config.goal, source_of(config.pool)
    assert goal is not None
    start, rounds = start_digest(config.training.start), Rounds()
    while rounds.stopped is None:
        picks = {
            seed: pick_round(
                store,
                pool,
                indexes[seed],
                of_seed,
                config.selection,
                plan_round(goal, rounds, seed),
                reviewed[seed],
            )
            for seed, of_seed in splits.items()
        }
        rounds = after_picking(rounds, picks)
        if rounds.stopped is None:
            plans = plan_round_cells(config, pool, indexes, splits, picks, start)
            cells = round_cells(plans, [run_cell(store, plan) for plan in plans])
            rounds = judge_round(store, config, rounds, splits, picks, cells)
    return rounds


def planned(
    config: RunConfig,
    seed: int,
    index: IndexInfo,
    splits: dict[Split, SplitInfo],
    selections: dict[str, SelectionInfo],
) -> list[CellPlan]:
    """Plan the cells of a seed, in the order of the table."""
    pool, start = source_of(config.pool), start_digest(config.training.start)
    drawn_like = selections[config.compare.draw_like]
    return [
        CellPlan.of(
            config,
            method,
            seed,
            pool,
            index,
            splits,
            selections.get(method.name, drawn_like),
            start,
        )
        for method in methods(config, has_reviews=UNREVIEWED in selections)
    ]
