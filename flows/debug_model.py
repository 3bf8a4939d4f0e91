"""Run `debug-model`: the paper's method from the pool to the figures.

Singla, Chegini, Moayeri, Feizi: Data-Centric Debugging, arXiv 2211.09859.
"""

from functools import partial

from prefect import flow

from dcd.config import RunConfig, RunnerConfig
from dcd.runs.run import RunInfo
from dcd.sources.source import open_for_pool
from dcd.splits.label_table import read_truth
from dcd.store.healing import Mended, healed
from flows import stages
from flows.deployment.attend import attend
from flows.rounds import run_rounds
from flows.runners import runner_of
from flows.stages import CELLS_AT_ONCE


@flow(
    name="debug-model",
    flow_run_name="debug {config.name}",
    task_runner=runner_of(RunnerConfig(max_workers=CELLS_AT_ONCE)),
)
def debug_model(config: RunConfig) -> RunInfo:
    """Embed, cluster by label, select, train, evaluate, report. Finished stages are reused."""
    attend()
    read_truth(config.pool)  # what the report reads at the end fails now if it fails
    store = open_for_pool(config.store, config.pool)
    return healed(store, partial(run_stages, config))


def run_stages(config: RunConfig, mended: tuple[Mended, ...]) -> RunInfo:
    """Run every stage once. mended: what was set aside in this run so far."""
    embedded = stages.embed_sources(config)
    index = stages.index_pool(config, embedded)
    splits = stages.gather_splits(config, embedded)
    index = stages.label_unlabelled(config, embedded, index, splits)
    reviewed = stages.read_reviews(config, index)
    rounds = run_rounds(config, index, splits, reviewed)
    of_rounds = None if rounds is None else rounds.selected
    selections = stages.select_images(config, index, splits, reviewed, of_rounds)
    with stages.map_drawn(config, index, splits, selections) as drawn:
        trained = stages.train_cells(config, index, splits, selections)
        of_map = drawn()
    return stages.report(
        config, embedded, index, splits, selections, trained, of_map, mended, rounds
    )
