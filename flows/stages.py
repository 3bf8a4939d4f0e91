"""The stages that several flows share"""

from collections.abc import Mapping

from dcd.cells.cell import CellPlan
from dcd.cells.methods import Method, methods
from dcd.config import SPLITS, EmbedConfig, PoolConfig, RunConfig, Split
from dcd.errors import DataError
from dcd.failures import registry as failures
from dcd.index.info import IndexInfo
from dcd.report.record import StageCount
from dcd.selection.select import SelectionInfo
from dcd.sources.source import source_of, sources
from dcd.splits.split import SplitInfo
from dcd.store import keys
from flows.embed_pool import EmbeddedSource, embed_pool
from tasks import failures as failure_tasks
from tasks import stages as debugging

CELLS_AT_ONCE = 2  # each takes all cores for its fit, and few to read what it needs


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
    return debugging.name_modes(config.store, gathered)


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
