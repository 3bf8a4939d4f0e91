"""The `debug-model` flow: the paper's method from the pool to the figures.

Singla, Chegini, Moayeri, Feizi: Data-Centric Debugging, arXiv 2211.09859.
"""

from collections.abc import Mapping

from prefect import flow

from dcd import failures, keys
from dcd.cells import CellPlan, parts_of
from dcd.config import SPLITS, EmbedConfig, PoolConfig, RunConfig, RunnerConfig, Split
from dcd.datasets import source_of, sources
from dcd.errors import DataError
from dcd.index import IndexInfo
from dcd.methods import Method, methods
from dcd.runs import Evidence, RunInfo
from dcd.selecting import SelectionInfo
from dcd.stages import SplitInfo
from dcd.start import start_digest
from dcd.summary import StageCount
from flows import operated
from flows.embed_pool import EmbeddedSource, embed_pool
from flows.runners import runner_of
from flows.stopwatch import Stopwatch
from tasks import debugging, progress, reuse
from tasks import failures as failure_tasks

CELLS_AT_ONCE = 2  # each takes all cores for its fit, and few to read what it needs


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


def embed_sources(config: RunConfig) -> dict[str, EmbeddedSource]:
    """Embed every distinct image source once, the pool first, new failures last; by source id."""
    wanted = sources(config)
    if config.failures and failure_tasks.has_failures(config.store):
        wanted.append(failures.registry_source(config.store))
    return {
        source.id: embed_pool(
            EmbedConfig(
                store=config.store,
                pool=PoolConfig(name=source.id, **source.data.model_dump()),
                encoder=config.encoder,
                runner=config.runner,
            )
        )
        for source in wanted
    }


def index_pool(config: RunConfig, embedded: Mapping[str, EmbeddedSource]) -> IndexInfo:
    """Cluster the embedded pool by label."""
    pool = embedded[source_of(config.pool).id]
    return debugging.cluster_pool(
        config.store, pool.source, pool.encoder_id, pool.shards, config.pool, config.index
    )


def embedding_cost(embedded: EmbeddedSource) -> StageCount:
    """What the embedding of one source cost this run."""
    return StageCount(
        f"embed {embedded.source.id}",
        embedded.n_new_images,
        "images",
        embedded.seconds,
        embedded.n_images - embedded.n_new_images,
        embedded.n_bytes,
    )


def gather_splits(
    config: RunConfig, seed: int, embedded: Mapping[str, EmbeddedSource]
) -> dict[Split, SplitInfo]:
    """Join every split of a seed with its labels; name failure modes where the data does not."""
    by_images = {source.data.images: source for source in sources(config)}
    gathered: dict[Split, SplitInfo] = {}
    for split in SPLITS:
        data = config.dataset(split, seed)
        if data is not None:
            source = embedded[by_images[data.images].id]
            gathered[split] = debugging.gather_split(
                config.store, split, source.source, source.encoder_id, source.shards, data
            )
    registry = embedded.get(failures.SOURCE_ID)
    if registry is not None:
        gathered["error_sample"] = debugging.add_failures(
            config.store,
            gathered.get("error_sample"),
            registry.source,
            registry.encoder_id,
            registry.shards,
        )
    if "error_sample" not in gathered:
        raise DataError(
            f"error_sample: no failure is registered in {config.store}; put some into its "
            f"{keys.FAILURES_INBOX}/LABEL/ and run: dcd failures watch"
        )
    return gathered


def select_all(
    config: RunConfig, index: IndexInfo, splits: Mapping[Split, SplitInfo]
) -> dict[str, SelectionInfo]:
    """Run every selection of the config for one seed; by method name."""
    pool = source_of(config.pool)
    return {
        method.name: debugging.select(config.store, pool, index, splits, method.selection)
        for method in methods(config)
        if method.selection is not None
    }


def plan_cell(
    config: RunConfig,
    method: Method,
    seed: int,
    pool: EmbeddedSource,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selections: Mapping[str, SelectionInfo],
    start: str | None,
) -> CellPlan:
    """One method at one seed; baselines draw as many images as `selected` picked."""
    return CellPlan(
        method=method,
        seed=seed,
        pool=pool.source,
        index=index,
        splits=splits,
        selection=selections.get(method.name, selections[config.compare.draw_like]),
        encoder=config.encoder,
        training=config.training,
        compare=config.compare,
        start_digest=start,
    )
