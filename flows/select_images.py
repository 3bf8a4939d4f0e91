"""Run `select-images`: from the pool to the tables of picks, without training."""

from dataclasses import dataclass
from functools import partial

from prefect import flow

from dcd.config import RunConfig
from dcd.evaluation.pool_gaps import PoolGaps
from dcd.rounds.plan import Rounds
from dcd.selection.select import SelectionInfo
from dcd.sources.source import open_for_pool
from dcd.store.healing import Mended, healed
from flows import stages
from flows.rounds import pick_images
from tasks.stages import find_pool_gaps


@dataclass(frozen=True)
class MethodSelection:
    """One selection at one seed. gaps: what the pool lacks for it, asked of `selected` only."""

    method: str
    seed: int
    info: SelectionInfo
    gaps: PoolGaps | None = None


@flow(name="select-images", flow_run_name="select {config.name}")
def select_images(config: RunConfig) -> list[MethodSelection]:
    """Embed, cluster by label, select. Finished stages are reused, also by `debug-model`.

    With a goal `selected` is what its first round picks: a further one needs a trained model.
    """
    return healed(open_for_pool(config.store, config.pool), partial(run_stages, config))


def run_stages(config: RunConfig, mended: tuple[Mended, ...]) -> list[MethodSelection]:
    """Run every stage once."""
    embedded = stages.embed_sources(config)
    index = stages.index_pool(config, embedded)
    splits = stages.gather_splits(config, embedded)
    index = stages.label_unlabelled(config, embedded, index, splits)
    reviewed = stages.read_reviews(config, index)
    of_rounds = None
    if config.goal is not None:
        first = pick_images(config, config.goal, Rounds(), index, splits, reviewed)
        of_rounds = {seed: picks.info for seed, picks in first.items()}
    selections = stages.select_images(config, index, splits, reviewed, of_rounds)
    return [
        MethodSelection(
            method,
            seed,
            info,
            find_pool_gaps(config.store, index.at(seed), splits.by_seed[seed], info)
            if method == "selected"
            else None,
        )
        for seed, of_seed in selections.by_seed.items()
        for method, info in of_seed.items()
    ]
