"""Tasks from the embedded pool to the report."""

from collections.abc import Mapping, Sequence

from prefect import Task, task

import dcd.cells.cell
import dcd.failures.modes
import dcd.index.build
import dcd.label_noise.pseudo_labels
import dcd.maps.draw
import dcd.rounds.picks
import dcd.runs.comparison
import dcd.runs.judged_rounds
import dcd.runs.run
import dcd.selection.pool_gaps
import dcd.selection.review_plan
import dcd.selection.reviewed
import dcd.selection.select
import dcd.splits.split
from dcd.cells.cell import CellInfo, CellPlan
from dcd.config import (
    ComparisonConfig,
    DataConfig,
    IndexConfig,
    MapConfig,
    PoolConfig,
    RunConfig,
    SelectionConfig,
    Split,
)
from dcd.evaluation.pool_gaps import PoolGaps
from dcd.failures.registry import corrections_of_failures
from dcd.index.info import IndexInfo
from dcd.maps.draw import MapInfo
from dcd.progress import live
from dcd.reviews.standing import Correction
from dcd.rounds.picks import RoundPicks, RoundPlan
from dcd.rounds.plan import Rounds
from dcd.runs.comparison import ArmCell, ComparisonInfo
from dcd.runs.judged_rounds import RoundCells
from dcd.runs.run import Evidence, RunInfo
from dcd.selection.review_plan import ReviewPlan
from dcd.selection.reviewed import Reviewed
from dcd.selection.select import SelectionInfo
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.training.data import Progress
from tasks import artifacts, reuse
from tasks.result_keys import cell_key
from tasks.retries import RETRY
from tasks.stopping import stop_if_told


@task(name="cluster-pool", **RETRY)
def cluster_pool(
    store: str,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    pool: PoolConfig,
    config: IndexConfig = IndexConfig(),  # noqa: B008 - frozen
    compact: bool = False,
) -> IndexInfo:
    return dcd.index.build.cluster_pool(
        Store(store), source, encoder_id, shards, pool, config, compact
    )


@task(name="label-unlabelled", task_run_name="label the unlabelled", **RETRY)
def label_unlabelled(
    store: str,
    pool: PoolConfig,
    shards: Sequence[Shard],
    base: IndexInfo,
    train: SplitInfo,
    config: IndexConfig = IndexConfig(),  # noqa: B008 - frozen
) -> IndexInfo:
    names = [shard.name for shard in shards]
    return dcd.label_noise.pseudo_labels.label_unlabelled(
        Store(store), pool, names, base, train, config
    )


@task(name="gather-split", task_run_name="gather {split}", **RETRY)
def gather_split(
    store: str,
    split: Split,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    data: DataConfig,
) -> SplitInfo:
    return dcd.splits.split.gather_split(Store(store), split, source, encoder_id, shards, data)


@task(name="add-failures", **RETRY)
def add_failures(
    store: str,
    given: SplitInfo | None,
    registry: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    corrections: Sequence[Correction] = (),
) -> SplitInfo:
    return dcd.splits.split.add_failures(
        Store(store), given, registry, encoder_id, shards, corrections
    )


@task(name="review-failures", **RETRY)
def review_failures(store: str) -> tuple[Correction, ...]:
    return corrections_of_failures(Store(store))


@task(name="match-reviews", **RETRY)
def match_reviews(store: str, index: IndexInfo) -> Reviewed | None:
    return dcd.selection.reviewed.match_reviews(Store(store), index)


@task(name="name-modes", **RETRY)
def name_modes(store: str, splits: Mapping[Split, SplitInfo]) -> dict[Split, SplitInfo]:
    return dcd.failures.modes.name_modes(Store(store), splits)


@task(name="select", **RETRY)
def select(
    store: str,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    reviewed: Reviewed | None = None,
) -> SelectionInfo:
    return dcd.selection.select.select(Store(store), pool, index, splits, config, reviewed)


@task(name="plan-review", **RETRY)
def plan_review(
    store: str,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selection: SelectionInfo,
    n: int,
) -> ReviewPlan:
    return dcd.selection.review_plan.plan_review(Store(store), index, splits, selection, n)


@task(name="find-pool-gaps", **RETRY)
def find_pool_gaps(
    store: str, index: IndexInfo, splits: Mapping[Split, SplitInfo], selection: SelectionInfo
) -> PoolGaps | None:
    return dcd.selection.pool_gaps.pool_gaps(Store(store), index, splits, selection)


@task(name="draw-map", **RETRY)
def draw_map(
    store: str,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selection_id: str,
    config: MapConfig,
) -> MapInfo | None:
    return dcd.maps.draw.draw_map(Store(store), index, splits, selection_id, config)


@task(name="pick-round", task_run_name="pick round {plan.number}", **RETRY)
def pick_round(
    store: str,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    plan: RoundPlan,
    reviewed: Reviewed | None = None,
) -> RoundPicks:
    return dcd.rounds.picks.pick_round(Store(store), pool, index, splits, config, plan, reviewed)


@task(name="judge-round", **RETRY)
def judge_round(
    store: str,
    config: RunConfig,
    rounds: Rounds,
    splits: Mapping[int, Mapping[Split, SplitInfo]],
    picks: Mapping[int, RoundPicks],
    cells: RoundCells,
) -> Rounds:
    return dcd.runs.judged_rounds.judge_round(Store(store), config, rounds, splits, picks, cells)


@task(name="train-and-evaluate", task_run_name="{plan.method.name} seed {plan.seed}", **RETRY)
def run_cell(store: str, plan: CellPlan) -> CellInfo:
    name = f"{plan.method.name} seed {plan.seed}"

    def tell(at: Progress) -> None:
        live.noted("train", f"{name}: {in_words(at)}")
        stop_if_told()

    cell = dcd.cells.cell.run_cell(Store(store), plan, tell)
    live.advanced("train")
    return cell


def in_words(at: Progress) -> str:
    """'epoch 2/5, loss 0.412, 130 images/s, 3 min left'."""
    left = f"{at.remaining_s:.0f} s" if at.remaining_s < 90 else f"{at.remaining_s / 60:.0f} min"
    return (
        f"epoch {at.epoch}/{at.n_epochs}, loss {at.loss:.3f}, {at.images_per_s:.0f} images/s, "
        f"{left} left"
    )


def kept_run_cell(store: str, plan: CellPlan) -> Task[..., CellInfo]:
    """Return `run_cell`, which is skipped where this very cell has been seen to be finished."""
    stands = reuse.stands(Store(store), keys.cell_predictions(plan.id))
    return reuse.kept(run_cell, store, cell_key(plan, predictions_stand=stands))


@task(name="report", **RETRY)
def write_run(store: str, config: RunConfig, evidence: Evidence) -> RunInfo:
    info = dcd.runs.run.write_run(Store(store), config, evidence)
    artifacts.publish_run(config.name, info)
    return info


@task(name="write-comparison", **RETRY)
def write_comparison(
    store: str,
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    pool: Source,
    splits: Mapping[int, Mapping[Split, SplitInfo]],
    parts: Sequence[str],
) -> ComparisonInfo:
    return dcd.runs.comparison.write_comparison(Store(store), config, cells, pool, splits, parts)
