"""The `compare` flow: encoders x strategies x k x seeds, every cell trained once and kept.

Encoders search; all arms train the same model on the same features, so that what differs is the
images added. A cell that is in the store is not trained again, whichever comparison asked for it.
"""

from prefect import flow

from dcd.cells.cell import parts_of
from dcd.cells.methods import methods
from dcd.config import ComparisonConfig, RunConfig, RunnerConfig
from dcd.runs.comparison import Arm, ArmCell, ComparisonInfo
from dcd.selection.select import SelectionInfo
from dcd.sources.source import source_of
from dcd.training.user_model import start_digest
from flows.deployment import attend as operated
from flows.runners import runner_of
from flows.stages import (
    CELLS_AT_ONCE,
    embed_sources,
    gather_splits,
    index_pool,
    plan_cell,
    select_all,
)
from tasks import progress
from tasks import stages as comparing
from tasks import stages as debugging


@flow(
    name="compare",
    flow_run_name="compare {config.name}",
    task_runner=runner_of(RunnerConfig(max_workers=CELLS_AT_ONCE)),
)
def compare(config: ComparisonConfig) -> ComparisonInfo:
    """Search with every encoder, train every arm at every seed, and set them side by side."""
    operated.attend()
    base = config.run()
    embedded = embed_sources(base)
    pool = embedded[source_of(base.pool).id]
    index = index_pool(base, embedded)
    splits = {seed: gather_splits(base, seed, embedded) for seed in base.seeds}
    selections = {seed: select_all(base, index, splits[seed]) for seed in base.seeds}
    start = start_digest(base.training.start)

    planned = []
    for seed in base.seeds:
        for method in methods(base):
            selecting = method.selection is not None
            arm = Arm(
                method.name,
                base.encoder.model if selecting else None,
                method.name,
                method.selection.k if method.selection else None,
            )
            selection_id = selections[seed][method.name].id if selecting else None
            plan = plan_cell(base, method, seed, pool, index, splits[seed], selections[seed], start)
            planned.append((arm, selection_id, plan))

    for encoder in config.encoders:
        for (strategy, k, seed), found in search(config, encoder).items():
            name = config.arm(encoder, strategy, k)
            method = next(
                m for m in methods(config.searching(encoder, strategy, k)) if m.name == name
            )
            plan = plan_cell(
                base,
                method,
                seed,
                pool,
                index,
                splits[seed],
                selections[seed] | {name: found},
                start,
            )
            planned.append((Arm(name, encoder, strategy, k), found.id, plan))

    progress.started("train", len(planned), "models")
    futures = [debugging.run_cell.submit(base.store, plan) for _, _, plan in planned]
    cells = [
        ArmCell(arm, future.result(), selection_id)
        for (arm, selection_id, _), future in zip(planned, futures, strict=True)
    ]
    n_reused = sum(cell.cell.reused for cell in cells)
    progress.finished("train", f"{len(cells) - n_reused} models trained, {n_reused} reused")
    parts = parts_of([plan for _, _, plan in planned])
    first = splits[base.seeds[0]]
    return comparing.write_comparison(base.store, config, cells, pool.source, first, parts)


def search(config: ComparisonConfig, encoder: str) -> dict[tuple[str, int, int], SelectionInfo]:
    """The selections of one encoder by (strategy, k, seed)."""
    found: dict[tuple[str, int, int], SelectionInfo] = {}
    of_encoder: RunConfig = config.base.model_copy(update={"encoder": config.encoders[encoder]})
    embedded = embed_sources(of_encoder)
    index = index_pool(of_encoder, embedded)
    pool = source_of(of_encoder.pool)
    for seed in of_encoder.seeds:
        splits = gather_splits(of_encoder, seed, embedded)
        for strategy in config.strategies:
            for k in config.k:
                name = config.arm(encoder, strategy, k)
                selection = config.searching(encoder, strategy, k).compare.selections[name]
                found[strategy, k, seed] = debugging.select(
                    of_encoder.store, pool, index, splits, selection
                )
    return found
