"""Build an index in shares: begin in one process, write each share in any, finish in one.

What is written is what one process would write, byte by byte, whatever the number of shares. A
share is noted in the store when its files are there, so it is not made again; the notes go before
`index.json` is written, which alone says that there is an index.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, PoolConfig
from dcd.embeddings.read import LabelRange, read_rows
from dcd.errors import CountMismatch, ObjectNotFound
from dcd.index.build import (
    Recipe,
    build_planned,
    find_recipe,
    info_of,
    never_empty,
    nothing_known,
    planned_counts,
    planned_work,
    publish,
    write_parts,
)
from dcd.index.info import IndexInfo, index_info, info_key
from dcd.index.layout import Layout, lists_of_label, sample_rows
from dcd.index.parts import MAX_PART_BYTES, write_sample
from dcd.index.read import read_sample
from dcd.index.recall import Judge
from dcd.index.row_groups import DIRECTORY
from dcd.index.sample import BottomK
from dcd.index.shares.plan import Share, Workers, shares_of
from dcd.index.shares.survey import survey
from dcd.index.sort import Cut, Observers, Sizes, Tally, labelled, sizes_of
from dcd.scratch import scratch_folder
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.label_map import read_pool_labels
from dcd.store import Store, keys
from dcd.tables import schemas

_LAYOUT = Layout(None, {})  # no lists, no codes: those are trained on all rows


@dataclass(frozen=True)
class SharedBuild:
    """An index that is begun. recipe: its labels lie in the store, where a table gives them.

    config: with the memory of one worker. tally: the counts of the whole index. sample_cutoff: as
    `Survey` has it.
    """

    recipe: Recipe
    has_labels: bool
    config: IndexConfig
    sizes: Sizes
    shares: tuple[Share, ...]
    tally: Tally
    sample_cutoff: int

    @property
    def prefix(self) -> str:
        recipe = self.recipe
        return keys.index(recipe.pool, recipe.encoder_id, recipe.sources.index_id)

    def sample(self) -> BottomK:
        dim = self.recipe.dim
        n_rows = sample_rows(self.config, dim)
        return BottomK(n_rows, schemas.clustered(dim), self.sample_cutoff)


def begin(
    store: Store,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    pool: PoolConfig,
    config: IndexConfig,
    workers: Workers,
    compact: bool = False,
) -> SharedBuild | IndexInfo:
    """Plan an index of the pool for some workers, or build it here where that is all there is.

    Here: an index that is there or that is appended to, one with lists or codes, one of a single
    file. Raises what `cluster_pool` raises.
    """
    names = [shard.name for shard in shards]
    recipe = find_recipe(store, source.id, encoder_id, names, read_pool_labels(pool), config)
    planned = planned_work(store, recipe, compact)
    if planned.work == "build" and workers.n > 1:
        begun = begin_shares(store, recipe, config, workers)
        if begun is not None:
            return begun
    return never_empty(build_planned(store, recipe, planned, config), pool)


def begin_shares(
    store: Store, recipe: Recipe, config: IndexConfig, workers: Workers, sizes: Sizes | None = None
) -> SharedBuild | None:
    """Plan a new index in shares; None where one process builds it.

    sizes: how rows are cut; None: as an index is cut.
    """
    dim = recipe.dim
    if config.storage != "float16" or has_lists(store, recipe, config):
        return None
    if sizes is None:
        if 2 * dim * recipe.n_images <= MAX_PART_BYTES:
            return None
        sizes = sizes_of(2 * dim)
    found = survey(store, recipe, config, sizes)
    shares = shares_of(found.parts, found.last_label, workers.n)
    if len(shares) < 2:
        return None
    of_worker = config.model_copy(update={"max_memory_bytes": workers.memory_bytes})
    begun = SharedBuild(
        replace(recipe, labels=None),
        recipe.labels is not None,
        of_worker,
        sizes,
        shares,
        found.tally,
        found.sample_cutoff,
    )
    if recipe.labels is not None:
        store.write_table(keys.index_share_labels(begun.prefix), recipe.labels)
    return begun


def has_lists(store: Store, recipe: Recipe, config: IndexConfig) -> bool:
    """Tell whether a label is too large to be scanned."""
    counts = planned_counts(store, recipe, config)
    return any(lists_of_label(n, recipe.dim, config) for n in counts.values())


def write_share(store: Store, begun: SharedBuild, share: Share) -> None:
    """Write the files of one share and note that they are there; unless that is noted.

    Takes `begun.config.max_memory_bytes`. Raises what `build_index` raises, CountMismatch if the
    rows are not those that were counted.
    """
    if not is_done(store, begun, share):
        directory, sample = _written(store, begun, share)
        with scratch_folder("sample") as folder:
            file = folder / "sample.parquet"
            write_sample(sample.table(), file)
            key = keys.index_share_sample(begun.prefix, share.id)
            store.publish_file(file, key, by_link=True)
        store.write_table(keys.index_share(begun.prefix, share.id), directory)


def is_done(store: Store, begun: SharedBuild, share: Share) -> bool:
    """Tell whether a share is written, with all that finishing needs of it."""
    notes = (keys.index_share, keys.index_share_sample)
    if not all(store.exists(key(begun.prefix, share.id)) for key in notes):
        return False
    numbers = range(share.first_part, share.first_part + len(share.part_rows))
    return all(store.exists(keys.index_vectors(begun.prefix, number)) for number in numbers)


def finish(store: Store, begun: SharedBuild) -> IndexInfo:
    """Publish the index, once all shares are written; one that is not is written here."""
    recipe = begun.recipe
    try:
        sample = begun.sample()
        runs = [DIRECTORY.empty_table()]
        for share in sorted(begun.shares, key=lambda share: share.first_part):
            write_share(store, begun, share)
            runs += _by_part(store.read_table(keys.index_share(begun.prefix, share.id)))
            key = keys.index_share_sample(begun.prefix, share.id)
            sample.take(read_sample(store, key, recipe.dim))
    except ObjectNotFound:  # another run has finished it, and cleared the notes
        if not store.exists(info_key(recipe.pool, recipe.encoder_id, recipe.sources.index_id)):
            raise
        return index_info(store, recipe.pool, recipe.encoder_id, recipe.sources.index_id)
    directory = pa.concat_tables(runs)
    observers = Observers(begun.tally, sample, Judge({}, None))
    info = info_of(recipe, directory, _LAYOUT, observers, begun.config)
    publish(store, info, directory, sample, recipe.sources, lambda: _clear(store, begun.prefix))
    return info


def _written(store: Store, begun: SharedBuild, share: Share) -> tuple[pa.Table, BottomK]:
    recipe, config = begun.recipe, begun.config
    labels = None
    if begun.has_labels:
        labels = share.labels_of(store.read_table(keys.index_share_labels(begun.prefix)))
    memory = config.max_memory_bytes
    read = read_rows(store, recipe.embedded, memory, _weak_labels(share, labels))
    every = labelled(read, labels, recipe.dim, memory, Tally())
    rows = (rows for table in every if (rows := share.rows_of(table)).num_rows)
    observers = Observers(Tally(), begun.sample(), Judge({}, None))
    cut = Cut(share.first_part, begun.sizes)
    directory = write_parts(
        store, begun.prefix, rows, _LAYOUT, recipe.dim, config, nothing_known, observers, cut
    )
    per_part = directory.group_by("part", use_threads=False).aggregate([("n_rows", "sum")])
    n_rows = tuple(per_part["n_rows_sum"].to_pylist())
    if n_rows != share.part_rows:
        raise CountMismatch(
            f"index {recipe.sources.index_id} of pool {recipe.pool}: {share.part_rows} rows were "
            f"counted for the files from number {share.first_part} on, {n_rows} were written; "
            "was the pool embedded again meanwhile? Nothing was published, run again"
        )
    return directory, observers.sample


def _weak_labels(share: Share, labels: pa.Table | None) -> LabelRange | None:
    """The weak labels that the rows of a share have; None: any."""
    if labels is None:
        return LabelRange(share.first[0], share.last_label)
    if "weak_label" not in labels.column_names:
        return None
    ends = pc.min_max(labels["weak_label"])
    return LabelRange(ends["min"].as_py(), ends["max"].as_py())


def _by_part(directory: pa.Table) -> list[pa.Table]:
    """A piece for each file, as one process gathers them: the pages of the table follow from it."""
    directory = directory.cast(DIRECTORY).combine_chunks()
    ends = pc.run_end_encode(directory["part"].combine_chunks()).run_ends.to_pylist()
    starts = [0, *ends[:-1]]
    return [directory.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]


def _clear(store: Store, prefix: str) -> None:
    for key in store.keys_under(keys.index_shares(prefix)):
        store.delete(key)
