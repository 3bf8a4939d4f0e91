"""The `debug-model` flow: the paper's method from the pool to the figures.

Singla, Chegini, Moayeri, Feizi: Data-Centric Debugging, arXiv 2211.09859.
"""

import time

from prefect import flow

from dcd.cells.cell import parts_of
from dcd.cells.methods import methods
from dcd.config import RunConfig, RunnerConfig
from dcd.failures import registry as failures
from dcd.report.record import StageCount
from dcd.runs.run import Evidence, RunInfo
from dcd.sources.source import source_of
from dcd.training.user_model import start_digest
from flows.deployment import attend as operated
from flows.runners import runner_of
from flows.stages import (
    CELLS_AT_ONCE,
    embed_sources,
    embedding_cost,
    gather_splits,
    index_pool,
    plan_cell,
    select_all,
)
from tasks import failures as failure_tasks
from tasks import progress, reuse
from tasks import stages as debugging


class Stopwatch:
    """Each `lap` is the time since the one before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        return seconds


@flow(
    name="debug-model",
    flow_run_name="debug {config.name}",
    task_runner=runner_of(RunnerConfig(max_workers=CELLS_AT_ONCE)),
)
def debug_model(config: RunConfig) -> RunInfo:
    """Embed, cluster by label, select, train, evaluate, report. Finished stages are reused."""
    operated.attend()
    embedded = embed_sources(config)
    watch = Stopwatch()
    pool = embedded[source_of(config.pool).id]
    index = index_pool(config, embedded)
    clustered_s = watch.lap()

    splits = {seed: gather_splits(config, seed, embedded) for seed in config.seeds}
    selections = {seed: select_all(config, index, splits[seed]) for seed in config.seeds}
    n_known = sum(s.reused for of_seed in selections.values() for s in of_seed.values())
    n_selected = sum(map(len, selections.values())) - n_known
    selected_s = watch.lap()

    start = start_digest(config.training.start)
    plans = [
        plan_cell(config, method, seed, pool, index, splits[seed], selections[seed], start)
        for seed in config.seeds
        for method in methods(config)
    ]
    progress.started("train", len(plans), "models")
    futures = [
        debugging.kept_run_cell(config.store, plan).submit(config.store, plan) for plan in plans
    ]
    cells = [reuse.result_of(future) for future in futures]
    n_reused = sum(cell.reused for cell in cells)
    trained_s = watch.lap()
    progress.finished("train", f"{len(cells) - n_reused} models trained, {n_reused} reused")

    evidence = Evidence(
        pool=pool.source,
        encoder_id=pool.encoder_id,
        index=index,
        shards=pool.shards,
        rejects=tuple(
            (e.source.id, shard) for e in embedded.values() for shard in e.shards_with_rejects
        ),
        splits=splits,
        selections={seed: of_seed["selected"] for seed, of_seed in selections.items()},
        cells=tuple(cells),
        stages=(
            *(embedding_cost(e) for e in embedded.values()),
            StageCount("cluster by label", index.n_rows, "vectors", clustered_s),
            StageCount("gather and select", n_selected, "selections", selected_s, n_known),
            StageCount("train and evaluate", len(cells) - n_reused, "models", trained_s, n_reused),
        ),
        parts=parts_of(plans),
    )
    run = debugging.write_run(config.store, config, evidence)
    if failures.SOURCE_ID in embedded:
        covered = [shard.name for shard in embedded[failures.SOURCE_ID].shards]
        failure_tasks.mark_covered(config.store, config.name, run.run_id, covered)
    return run
