"""Build an index by several workers: begin, write each run, divide, write each share, finish.

What is written is what one process would write, byte by byte, whatever the number of workers. Runs
and shares are noted in the store when they are there, so they are not made again; the notes go
before `index.json` is written, which alone says that there is an index.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, PoolConfig
from dcd.errors import CountMismatch, ObjectNotFound
from dcd.index.build import (
    Recipe,
    build_planned,
    find_recipe,
    info_of,
    never_empty,
    nothing_known,
    planned_work,
    publish,
    publish_parts,
    trained_layout,
)
from dcd.index.info import IndexInfo, index_info, info_key
from dcd.index.layout import Layout
from dcd.index.parts import write_sample
from dcd.index.quantizers import code_bytes_of
from dcd.index.read import read_sample
from dcd.index.row_groups import DIRECTORY
from dcd.index.shares.begun import BegunIndex, Run
from dcd.index.shares.plan import Share, Workers, batches_of, shares_of
from dcd.index.shares.runs import rows_of_share
from dcd.index.shares.survey import survey
from dcd.index.sort import Observers, Sizes, Tally, cluster, sizes_of, sort_by_label
from dcd.scratch import scratch_folder
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.label_map import read_pool_labels
from dcd.store import Store, keys
from dcd.tables import schemas


@dataclass(frozen=True)
class DividedIndex:
    """An index whose files are dealt out. tally, sample_cutoff: as `Survey` has them."""

    begun: BegunIndex
    shares: tuple[Share, ...]
    tally: Tally
    sample_cutoff: int


def begin(
    store: Store,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    pool: PoolConfig,
    config: IndexConfig,
    workers: Workers,
    compact: bool = False,
) -> BegunIndex | IndexInfo:
    """Begin an index of the pool for some workers, or build it here where that is all there is.

    Here: one that is there or that is appended to, and one of a single file. Raises what
    `cluster_pool` raises.
    """
    names = [shard.name for shard in shards]
    recipe = find_recipe(store, source.id, encoder_id, names, read_pool_labels(pool), config)
    planned = planned_work(store, recipe, compact)
    sizes = sizes_of(code_bytes_of(config.storage, recipe.dim, config.pq_bytes))
    if planned.work == "build" and workers.n > 1 and recipe.n_images > sizes.part_rows:
        return begin_runs(store, recipe, config, workers, sizes)
    if planned.work == "none" and workers.n > 1:  # a slower run may have left some behind
        _clear(store, recipe.prefix)
    return never_empty(build_planned(store, recipe, planned, config), pool)


def begin_runs(
    store: Store, recipe: Recipe, config: IndexConfig, workers: Workers, sizes: Sizes
) -> BegunIndex:
    """Train lists and codes, if there are to be such, and deal the shards out to workers."""
    layout = trained_layout(store, recipe, config)
    batches = batches_of([shard.n_embedded for shard in recipe.embedded], workers.n)
    runs = tuple(Run(recipe.embedded[batch.start : batch.stop]) for batch in batches)
    of_worker = config.model_copy(update={"max_memory_bytes": workers.memory_bytes})
    if recipe.labels is not None:
        store.write_table(keys.index_share_labels(recipe.prefix), recipe.labels)
    is_trained = bool(layout.centroids) or layout.codec is not None
    if is_trained:
        heldout = [schemas.clustered(recipe.dim).empty_table(), *layout.heldout.values()]
        _publish_rows(store, keys.index_heldout(recipe.prefix), pa.concat_tables(heldout))
    return BegunIndex(
        replace(recipe, labels=None),
        recipe.labels is not None,
        of_worker,
        sizes,
        runs,
        dict(layout.n_train) if layout.centroids else {},
    )


def divide(store: Store, begun: BegunIndex, n_workers: int, max_memory_bytes: int) -> DividedIndex:
    """Count the rows of all runs, and deal the files of the index out to workers.

    Takes max_memory_bytes. Raises DataError if an id names two images.
    """
    found = survey(store, begun, max_memory_bytes)
    shares = shares_of(found.parts, n_workers)
    return DividedIndex(begun, shares, found.tally, found.sample_cutoff)


def write_share(store: Store, divided: DividedIndex, share: Share) -> None:
    """Write the files of one share, and note that they are there; unless they are.

    Takes `config.max_memory_bytes` of the begun index, beside its share of the sample. Raises
    CountMismatch if the rows are not those that were counted.
    """
    begun = divided.begun
    if is_written(store, begun, share):
        return
    layout = begun.layout(store)
    observers = Observers(Tally(), begun.sample(divided.sample_cutoff), begun.judge(layout))
    directory = _written(store, begun, share, layout, observers)
    prefix = begun.prefix
    _publish_rows(store, keys.index_share_sample(prefix, share.id), observers.sample.table())
    store.write_table(keys.index_share_judged(prefix, share.id), observers.judge.findings())
    store.write_table(keys.index_share(prefix, share.id), directory)


def is_written(store: Store, begun: BegunIndex, share: Share) -> bool:
    """Tell whether the files of a share are there, with all that finishing needs of it."""
    notes = (keys.index_share, keys.index_share_sample, keys.index_share_judged)
    numbers = range(share.first_part, share.first_part + len(share.part_rows))
    wanted = [key(begun.prefix, share.id) for key in notes]
    wanted += [keys.index_vectors(begun.prefix, number) for number in numbers]
    return all(store.exists(key) for key in wanted)


def finish(store: Store, divided: DividedIndex, pool: PoolConfig) -> IndexInfo:
    """Publish the index, once all shares are written; one that is not is written here.

    Raises DataError if it holds nothing.
    """
    begun = divided.begun
    recipe = begun.recipe
    try:
        layout = begun.layout(store)
        sample, judge = begun.sample(divided.sample_cutoff), begun.judge(layout)
        runs = [DIRECTORY.empty_table()]
        for share in sorted(divided.shares, key=lambda share: share.first_part):
            write_share(store, divided, share)
            runs += _by_part(store.read_table(keys.index_share(begun.prefix, share.id)))
            key = keys.index_share_sample(begun.prefix, share.id)
            sample.take(read_sample(store, key, recipe.dim))
            judge.add(store.read_table(keys.index_share_judged(begun.prefix, share.id)))
    except ObjectNotFound:  # another run has finished it, and cleared the notes
        index = (recipe.pool, recipe.encoder_id, recipe.sources.index_id)
        if not store.exists(info_key(*index)):
            raise
        return never_empty(index_info(store, *index), pool)
    directory = pa.concat_tables(runs)
    info = info_of(recipe, directory, layout, Observers(divided.tally, sample, judge), begun.config)
    clear = partial(_clear, store, begun.prefix)
    publish(store, info, directory, sample, recipe.sources, before_last=clear)
    return never_empty(info, pool)


def _written(
    store: Store, begun: BegunIndex, share: Share, layout: Layout, observers: Observers
) -> pa.Table:
    """Write the files; which rows of them hold which label."""
    recipe = begun.recipe
    with (
        scratch_folder("cluster") as folder,
        sort_by_label(recipe.dim, folder, begun.config.max_memory_bytes) as gathered,
    ):
        for rows in rows_of_share(store, begun, share):
            gathered.take(rows)
        parts = cluster(gathered, layout, recipe.dim, nothing_known, observers, folder, begun.sizes)
        directory = publish_parts(store, begun.prefix, parts, share.first_part)
    per_part = directory.group_by("part", use_threads=False).aggregate([("n_rows", "sum")])
    n_rows = tuple(per_part["n_rows_sum"].to_pylist())
    if n_rows != share.part_rows:
        raise CountMismatch(
            f"index {recipe.sources.index_id} of pool {recipe.pool}: {share.part_rows} rows were "
            f"counted for the files from number {share.first_part} on, {n_rows} were written; "
            "nothing was published, report this"
        )
    return directory


def _by_part(directory: pa.Table) -> list[pa.Table]:
    """A piece for each file, as one process gathers them: the pages of the table follow from it."""
    directory = directory.cast(DIRECTORY).combine_chunks()
    ends = pc.run_end_encode(directory["part"].combine_chunks()).run_ends.to_pylist()
    return [
        directory.slice(start, end - start)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _publish_rows(store: Store, key: str, rows: pa.Table) -> None:
    """rows: schemas.clustered; read back by `read_sample`."""
    with scratch_folder("sample") as folder:
        file = folder / "rows.parquet"
        write_sample(rows, file)
        store.publish_file(file, key, by_link=True)


def _clear(store: Store, prefix: str) -> None:
    for key in store.keys_under(keys.index_shares(prefix)):
        store.delete(key)
