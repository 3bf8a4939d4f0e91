"""Run the rounds of a goal: pick for what still fails, train, judge, until they stop."""

from collections.abc import Mapping

from dcd.config import GoalConfig, RunConfig
from dcd.progress import live
from dcd.rounds.picks import RoundPicks
from dcd.rounds.plan import Rounds, after_picking, plan_round, round_words
from dcd.runs.judged_rounds import RoundCells, plan_round_cells, round_cells
from dcd.selection.reviewed import Reviewed
from dcd.training.user_model import start_digest
from flows.stages import NO_REVIEWS, PoolIndex, SeedSplits, run_cells
from tasks.stages import judge_round, pick_round


def run_rounds(
    config: RunConfig,
    index: PoolIndex,
    splits: SeedSplits,
    reviewed: Mapping[int, Reviewed] = NO_REVIEWS,
) -> Rounds | None:
    """Pick, train and judge in rounds until the goal's rounds stop; None without a goal."""
    if config.goal is None:
        return None
    rounds = Rounds()
    while rounds.stopped is None:
        stage = f"round {len(rounds.finished) + 1}"
        live.started(stage, None, "steps")
        picks = pick_images(config, config.goal, rounds, index, splits, reviewed)
        rounds = after_picking(rounds, picks)
        if rounds.stopped is None:
            cells = train_round(config, index, splits, picks)
            rounds = judge_round(config.store, config, rounds, splits.by_seed, picks, cells)
        live.finished(stage, round_words(config.goal, rounds))
    return rounds


def pick_images(
    config: RunConfig,
    goal: GoalConfig,
    rounds: Rounds,
    index: PoolIndex,
    splits: SeedSplits,
    reviewed: Mapping[int, Reviewed],
) -> dict[int, RoundPicks]:
    """Pick the images of the next round, for every seed."""
    return {
        seed: pick_round(
            config.store,
            index.pool,
            index.at(seed),
            of_seed,
            config.selection,
            plan_round(goal, rounds, seed),
            reviewed.get(seed),
        )
        for seed, of_seed in splits.by_seed.items()
    }


def train_round(
    config: RunConfig, index: PoolIndex, splits: SeedSplits, picks: Mapping[int, RoundPicks]
) -> RoundCells:
    """Train a round's model and `none` at every seed."""
    start = start_digest(config.training.start)
    by_seed = {seed: index.at(seed) for seed in config.seeds}
    plans = plan_round_cells(config, index.pool, by_seed, splits.by_seed, picks, start)
    return round_cells(plans, run_cells(config, plans))
