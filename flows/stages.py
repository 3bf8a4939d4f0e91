"""Run the stages of the loop, each as one call that times itself and counts what it did."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from dcd.cells.cell import CellInfo, CellPlan, parts_of
from dcd.cells.methods import UNREVIEWED, Method, methods
from dcd.config import SPLITS, EmbedConfig, PoolConfig, RunConfig, Split
from dcd.failures import registry
from dcd.index.info import IndexInfo
from dcd.maps.draw import MapInfo
from dcd.progress import live
from dcd.report.record import StageCount
from dcd.reviews.standing import Correction
from dcd.rounds.plan import Rounds
from dcd.runs.run import Evidence, RunInfo
from dcd.selection.reviewed import Reviewed
from dcd.selection.select import SelectionInfo
from dcd.sources.source import Source, source_of, sources
from dcd.splits.split import SplitInfo
from dcd.store.healing import Mended
from dcd.training.user_model import start_digest
from flows.clustering import clustered
from flows.embed_pool import EmbeddedSource, embed_pool, with_graph
from tasks import reuse
from tasks.failures import has_failures, mark_covered
from tasks.stages import (
    add_failures,
    draw_map,
    gather_split,
    kept_run_cell,
    match_reviews,
    name_modes,
    review_failures,
    select,
    write_run,
)
from tasks.stages import label_unlabelled as label_missing
from tasks.stopping import all_over
from tasks.tracking import track

CELLS_AT_ONCE = 2  # each takes all cores for its fit, and few to read what it needs

Embeddings = Mapping[str, EmbeddedSource]  # by source id
Splits = Mapping[Split, SplitInfo]
Selections = Mapping[str, SelectionInfo]  # by method name
NO_REVIEWS: Mapping[int, Reviewed] = MappingProxyType({})


@dataclass(frozen=True)
class PoolIndex:
    """The index of the embedded pool, and what clustering by label cost.

    by_seed: where images without a label got one by a seed's train; else all seeds share `info`.
    """

    pool: Source
    info: IndexInfo
    count: StageCount
    by_seed: Mapping[int, IndexInfo] = field(default_factory=dict)

    def at(self, seed: int) -> IndexInfo:
        """Return the index that a seed searches."""
        return self.by_seed.get(seed, self.info)


@dataclass(frozen=True)
class SeedSplits:
    """The splits of every seed, and the seconds that gathering them took."""

    by_seed: Mapping[int, Splits]
    seconds: float


@dataclass(frozen=True)
class SeedSelections:
    """The selections of every seed, and what gathering and selecting cost.

    reviewed: the reviews that count in them, by seed; of none where there are none.
    """

    by_seed: Mapping[int, Selections]
    count: StageCount
    reviewed: Mapping[int, Reviewed] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedCells:
    """All cells, the parts of the store that they are made of, and what training cost."""

    cells: tuple[CellInfo, ...]
    parts: tuple[str, ...]
    count: StageCount


def embed_sources(config: RunConfig) -> dict[str, EmbeddedSource]:
    """Embed every distinct image source once, the pool first, new failures last; by source id."""
    wanted = sources(config)
    if config.failures and has_failures(config.store):
        wanted.append(registry.registry_source(config.store))
    # In int8 made of the pool's images, and the splits are embedded by it as well.
    encoder = with_graph(config.store, source_of(config.pool), config.encoder)
    return {
        source.id: embed_pool(
            EmbedConfig(
                store=config.store,
                pool=PoolConfig(name=source.id, **source.data.model_dump()),
                encoder=encoder,
                runner=config.runner,
            )
        )
        for source in wanted
    }


def index_pool(config: RunConfig, embedded: Embeddings) -> PoolIndex:
    """Cluster the embedded pool by label."""
    started = time.monotonic()
    pool = embedded[source_of(config.pool).id]
    info = clustered(config.store, pool, config.pool, config.index, config.runner)
    seconds = time.monotonic() - started
    count = StageCount("cluster by label", info.n_rows, "vectors", seconds)
    return PoolIndex(pool.source, info, count)


def gather_splits(config: RunConfig, embedded: Embeddings) -> SeedSplits:
    """Join every split of every seed with its labels."""
    started = time.monotonic()
    corrections = review_failures(config.store) if registry.SOURCE_ID in embedded else ()
    with live.stage("gather splits", len(config.seeds), "seeds") as stage:
        by_seed = {
            seed: gather_seed(config, seed, embedded, corrections)
            for seed in stage.each(config.seeds)
        }
    return SeedSplits(by_seed, time.monotonic() - started)


def gather_seed(
    config: RunConfig, seed: int, embedded: Embeddings, corrections: Sequence[Correction] = ()
) -> dict[Split, SplitInfo]:
    """Join every split of a seed with its labels; name failure modes where the data does not.

    corrections: what people said of registered failures.
    """
    by_images = {source.data.images: source for source in sources(config)}
    gathered: dict[Split, SplitInfo] = {}
    for split in SPLITS:
        data = config.dataset(split, seed)
        if data is not None:
            source = embedded[by_images[data.images].id]
            gathered[split] = gather_split(
                config.store, split, source.source, source.encoder_id, source.shards, data
            )
    failures = embedded.get(registry.SOURCE_ID)
    if failures is not None:
        gathered["error_sample"] = add_failures(
            config.store,
            gathered.get("error_sample"),
            failures.source,
            failures.encoder_id,
            failures.shards,
            corrections,
        )
    return name_modes(config.store, gathered)


def label_unlabelled(
    config: RunConfig, embedded: Embeddings, index: PoolIndex, splits: SeedSplits
) -> PoolIndex:
    """Give images without a label one where that is sure, where the config asks for it.

    A classifier of train decides with an image's neighbours, so every seed has labels of its own.
    """
    if config.pool.unlabelled == "left_out":
        return index
    started = time.monotonic()
    pool = embedded[index.pool.id]
    by_seed = {
        seed: label_missing(
            config.store, config.pool, pool.shards, index.info, of_seed["train"], config.index
        )
        for seed, of_seed in splits.by_seed.items()
    }
    n = max(info.n_rows for info in by_seed.values())
    seconds = (index.count.seconds or 0) + time.monotonic() - started
    return replace(index, by_seed=by_seed, count=replace(index.count, n=n, seconds=seconds))


def read_reviews(config: RunConfig, index: PoolIndex) -> dict[int, Reviewed]:
    """Find what people decided about images of the pool, by seed; empty where there is nothing."""
    found = {i.index_id: i for i in (index.at(seed) for seed in config.seeds)}
    matched = {index_id: match_reviews(config.store, info) for index_id, info in found.items()}
    by_seed = {seed: matched[index.at(seed).index_id] for seed in config.seeds}
    return {seed: reviewed for seed, reviewed in by_seed.items() if reviewed is not None}


def select_images(
    config: RunConfig,
    index: PoolIndex,
    splits: SeedSplits,
    reviewed: Mapping[int, Reviewed] = NO_REVIEWS,
    of_rounds: Mapping[int, SelectionInfo] | None = None,
) -> SeedSelections:
    """Run every selection of the config for every seed; with reviews, once without them too.

    of_rounds: what rounds have picked, by seed; it is `selected` then.
    """
    started = time.monotonic()
    searching = {
        method.name: (method.selection, method.reviewed)
        for method in methods(config, has_reviews=bool(reviewed))
        if method.selection is not None
    }
    n_selections = len(splits.by_seed) * len(searching)
    with live.stage("select", n_selections, "selections") as stage:
        by_seed = {
            seed: {
                name: of_rounds[seed]
                if of_rounds is not None and name == "selected"
                else select(
                    config.store,
                    index.pool,
                    index.at(seed),
                    of_seed,
                    selection,
                    reviewed.get(seed) if counting else None,
                )
                for name, (selection, counting) in stage.each(searching.items())
            }
            for seed, of_seed in splits.by_seed.items()
        }
    reused = [info.reused for of_seed in by_seed.values() for info in of_seed.values()]
    seconds = splits.seconds + time.monotonic() - started
    n_new = len(reused) - sum(reused)
    count = StageCount("gather and select", n_new, "selections", seconds, sum(reused))
    return SeedSelections(by_seed, count, reviewed)


def plan_cell(
    config: RunConfig,
    method: Method,
    seed: int,
    index: PoolIndex,
    splits: Splits,
    selections: Selections,
    start: str | None,
) -> CellPlan:
    """Plan one method at one seed; baselines draw as many images as `selected` picked."""
    selection = selections.get(method.name, selections[config.compare.draw_like])
    return CellPlan.of(config, method, seed, index.pool, index.at(seed), splits, selection, start)


def train_cells(
    config: RunConfig, index: PoolIndex, splits: SeedSplits, selections: SeedSelections
) -> TrainedCells:
    """Train and evaluate every method at every seed."""
    started = time.monotonic()
    start = start_digest(config.training.start)
    plans = [
        plan_cell(
            config, method, seed, index, splits.by_seed[seed], selections.by_seed[seed], start
        )
        for seed in config.seeds
        for method in methods(config, has_reviews=bool(selections.reviewed))
    ]
    cells = run_cells(config, plans)
    n_reused = sum(cell.reused for cell in cells)
    count = StageCount(
        "train and evaluate",
        len(cells) - n_reused,
        "models",
        time.monotonic() - started,
        n_reused,
    )
    return TrainedCells(cells, parts_of(plans), count)


def run_cells(config: RunConfig, plans: Sequence[CellPlan]) -> tuple[CellInfo, ...]:
    """Train and evaluate some cells, a few at once, and tell what was made."""
    live.started("train", len(plans), "models")
    futures = all_over(
        kept_run_cell(config.store, plan).submit(config.store, plan) for plan in plans
    )
    cells = tuple(reuse.result_of(future) for future in futures)
    tell_trained(cells)
    return cells


def tell_trained(cells: Sequence[CellInfo]) -> int:
    """Tell what the training made; gives the number of cells that were there already."""
    n_reused = sum(cell.reused for cell in cells)
    live.finished("train", f"{len(cells) - n_reused} models trained, {n_reused} reused")
    return n_reused


@contextmanager
def map_drawn(
    config: RunConfig, index: PoolIndex, splits: SeedSplits, selections: SeedSelections
) -> Iterator[Callable[[], MapInfo | None]]:
    """Draw the first seed's failures and picks among images of pool and train, beside the block.

    Training leaves cores idle while it reads, and the map needs nothing of it. Yields what waits
    for the map; the block ends with the drawing, also where it raises.
    """
    seed = config.seeds[0]
    selection_id = selections.by_seed[seed]["selected"].id
    live.started("draw the map", None, "")
    future = draw_map.submit(
        config.store, index.at(seed), splits.by_seed[seed], selection_id, config.map
    )

    def drawn() -> MapInfo | None:
        found = future.result()
        live.finished("draw the map", "done")
        return found

    try:
        yield drawn
    finally:
        future.wait()  # what is done once more must not meet it


def report(
    config: RunConfig,
    embedded: Embeddings,
    index: PoolIndex,
    splits: SeedSplits,
    selections: SeedSelections,
    trained: TrainedCells,
    drawn: MapInfo | None,
    mended: Sequence[Mended] = (),
    rounds: Rounds | None = None,
) -> RunInfo:
    """Write the run, pass the gate, note the failures covered, show it in MLflow."""
    pool = embedded[source_of(config.pool).id]
    evidence = Evidence(
        pool=pool.source,
        encoder_id=pool.encoder_id,
        index=index.at(config.seeds[0]),
        shards=pool.shards,
        rejects=tuple(
            (e.source.id, shard) for e in embedded.values() for shard in e.shards_with_rejects
        ),
        splits=splits.by_seed,
        selections={seed: of_seed["selected"] for seed, of_seed in selections.by_seed.items()},
        cells=trained.cells,
        stages=(
            *(embedding_count(e) for e in embedded.values()),
            index.count,
            selections.count,
            trained.count,
        ),
        parts=trained.parts,
        mended=tuple(one.why for one in mended),
        reviewed=selections.reviewed.get(config.seeds[0]),
        unreviewed=selections.by_seed[config.seeds[0]].get(UNREVIEWED),
        rounds=rounds,
        map=drawn,
    )
    with live.stage("write the report"):
        run = write_run(config.store, config, evidence)
    if registry.SOURCE_ID in embedded:
        covered = [shard.name for shard in embedded[registry.SOURCE_ID].shards]
        mark_covered(config.store, config.name, run.run_id, covered)
    return replace(run, tracked=track(config.store, run.run_id))


def embedding_count(embedded: EmbeddedSource) -> StageCount:
    """Count what the embedding of one source cost this run."""
    return StageCount(
        f"embed {embedded.source.id}",
        embedded.n_new_images,
        "images",
        embedded.seconds,
        embedded.n_images - embedded.n_new_images,
        embedded.n_bytes,
    )
