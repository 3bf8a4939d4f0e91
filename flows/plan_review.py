"""Run `plan-review`: which pool images people should look at, where they can look at a few only."""

from functools import partial

from prefect import flow

from dcd.config import RunConfig
from dcd.progress import live
from dcd.selection.review_plan import ReviewPlan
from dcd.sources.source import open_for_pool
from dcd.store.healing import Mended, healed
from flows import stages
from tasks.stages import plan_review as plan


@flow(name="plan-review", flow_run_name="plan review {config.name}")
def plan_review(config: RunConfig, n: int) -> ReviewPlan:
    """Embed, cluster by label, select, and choose n images at the first seed."""
    return healed(open_for_pool(config.store, config.pool), partial(run_stages, config, n))


def run_stages(config: RunConfig, n: int, mended: tuple[Mended, ...]) -> ReviewPlan:
    """Run every stage once. Finished ones are reused, also by `debug-model`."""
    embedded = stages.embed_sources(config)
    index = stages.index_pool(config, embedded)
    splits = stages.gather_splits(config, embedded)
    index = stages.label_unlabelled(config, embedded, index, splits)
    reviewed = stages.read_reviews(config, index)
    selections = stages.select_images(config, index, splits, reviewed)
    seed = config.seeds[0]
    selected = selections.by_seed[seed]["selected"]
    with live.stage("plan the review"):
        return plan(config.store, index.at(seed), splits.by_seed[seed], selected, n)
