"""Run `compare`: encoders x strategies x k x seeds, every cell trained once and kept.

Encoders search; all arms train the same model on the same features, so that what differs is the
images added. A cell that is in the store is not trained again, whichever comparison asked for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from prefect import flow

from dcd.cells.cell import CellPlan, parts_of
from dcd.cells.methods import Method, methods
from dcd.config import ComparisonConfig, RunConfig, RunnerConfig
from dcd.progress import live
from dcd.runs.comparison import Arm, ArmCell, ComparisonInfo
from dcd.selection.select import SelectionInfo
from dcd.sources.source import open_for_pool
from dcd.splits.label_table import read_truth
from dcd.store.healing import Mended, healed
from dcd.training.user_model import start_digest
from flows import stages
from flows.deployment.attend import attend
from flows.runners import runner_of
from flows.stages import CELLS_AT_ONCE, PoolIndex, SeedSelections, SeedSplits
from tasks.stages import run_cell, select, write_comparison
from tasks.stopping import all_over


@dataclass(frozen=True)
class PlannedArm:
    """A cell of a comparison; the selection is None for baselines, which search nothing."""

    arm: Arm
    selection_id: str | None
    plan: CellPlan


@flow(
    name="compare",
    flow_run_name="compare {config.name}",
    task_runner=runner_of(RunnerConfig(max_workers=CELLS_AT_ONCE)),
)
def compare(config: ComparisonConfig) -> ComparisonInfo:
    """Search with every encoder, train every arm at every seed, and set them side by side."""
    attend()
    read_truth(config.base.pool)  # what the report reads at the end fails now if it fails
    store = open_for_pool(config.base.store, config.base.pool)
    return healed(store, partial(run_stages, config))


def run_stages(config: ComparisonConfig, mended: tuple[Mended, ...]) -> ComparisonInfo:
    """Run every stage once."""
    base = config.run()
    embedded = stages.embed_sources(base)
    index = stages.index_pool(base, embedded)
    splits = stages.gather_splits(base, embedded)
    index = stages.label_unlabelled(base, embedded, index, splits)
    selections = stages.select_images(base, index, splits)
    planned = [
        *plan_base(base, index, splits, selections),
        *plan_searches(config, index, splits, selections),
    ]
    cells = train(base, planned)
    parts = parts_of([one.plan for one in planned])
    with live.stage("write the comparison"):
        return write_comparison(base.store, config, cells, index.pool, splits.by_seed, parts)


def plan_base(
    base: RunConfig, index: PoolIndex, splits: SeedSplits, selections: SeedSelections
) -> Iterator[PlannedArm]:
    """Plan the methods of the run that the comparison is based on."""
    start = start_digest(base.training.start)
    for seed in base.seeds:
        of_seed = selections.by_seed[seed]
        for method in methods(base):
            plan = stages.plan_cell(base, method, seed, index, splits.by_seed[seed], of_seed, start)
            selection = method.selection
            if selection is None:
                yield PlannedArm(Arm(method.name, None, method.name, None), None, plan)
            else:
                arm = Arm(method.name, base.encoder.model, method.name, selection.k)
                yield PlannedArm(arm, of_seed[method.name].id, plan)


def plan_searches(
    config: ComparisonConfig, index: PoolIndex, splits: SeedSplits, selections: SeedSelections
) -> Iterator[PlannedArm]:
    """Plan an arm for every encoder, strategy and k: its picks, trained on the base's features."""
    base = config.run()
    start = start_digest(base.training.start)
    for encoder in config.encoders:
        for (strategy, k, seed), found in search(config, encoder).items():
            method = method_of(config, encoder, strategy, k)
            of_seed = {**selections.by_seed[seed], method.name: found}
            plan = stages.plan_cell(base, method, seed, index, splits.by_seed[seed], of_seed, start)
            yield PlannedArm(Arm(method.name, encoder, strategy, k), found.id, plan)


def method_of(config: ComparisonConfig, encoder: str, strategy: str, k: int) -> Method:
    """Give the method of the arm that searches this way."""
    name = config.arm(encoder, strategy, k)
    searching = config.searching(encoder, strategy, k)
    return next(method for method in methods(searching) if method.name == name)


def search(config: ComparisonConfig, encoder: str) -> dict[tuple[str, int, int], SelectionInfo]:
    """Make the selections of one encoder, by (strategy, k, seed)."""
    of_encoder: RunConfig = config.base.model_copy(update={"encoder": config.encoders[encoder]})
    embedded = stages.embed_sources(of_encoder)
    index = stages.index_pool(of_encoder, embedded)
    splits = stages.gather_splits(of_encoder, embedded)
    index = stages.label_unlabelled(of_encoder, embedded, index, splits)
    cells = list(product(of_encoder.seeds, config.strategies, config.k))
    found: dict[tuple[str, int, int], SelectionInfo] = {}
    with live.stage(f"select by {encoder}", len(cells), "selections") as stage:
        for seed, strategy, k in stage.each(cells):
            selection = method_of(config, encoder, strategy, k).selection
            assert selection is not None
            found[strategy, k, seed] = select(
                of_encoder.store, index.pool, index.at(seed), splits.by_seed[seed], selection
            )
    return found


def train(base: RunConfig, planned: list[PlannedArm]) -> list[ArmCell]:
    """Train and evaluate all cells."""
    live.started("train", len(planned), "models")
    futures = all_over(run_cell.submit(base.store, one.plan) for one in planned)
    cells = [
        ArmCell(one.arm, future.result(), one.selection_id)
        for one, future in zip(planned, futures, strict=True)
    ]
    stages.tell_trained([cell.cell for cell in cells])
    return cells
