"""Build an index of the pool: from nothing, or by appending new shards to an older index.

Appending writes the rows of the new shards and nothing else: what the older index holds stays where
it is, and its lists and codec go on to be used. Compaction writes all rows as one whole again.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, PoolConfig
from dcd.embeddings.read import ShardEntry, find_embedded, read_labels, read_rows
from dcd.errors import CountMismatch, DataError
from dcd.index.identities import ID_COLUMNS, refuse_two_images
from dcd.index.info import IndexInfo, ListInfo, PseudoLabelled, write_info
from dcd.index.layout import Layout, plan, read_centroids, sample_rows, write_layout
from dcd.index.parts import Part, write_sample
from dcd.index.plan import (
    IndexPlan,
    Sources,
    distinct_labels,
    plan_index,
    read_sources,
    sources_of,
)
from dcd.index.read import codec_of, pool_sample, read_directory
from dcd.index.recall import RECALL_K, Judge
from dcd.index.row_groups import DIRECTORY, read_pieces
from dcd.index.sample import BottomK
from dcd.index.sort import Observers, Tally, cluster, gather, labelled, sort_by_label
from dcd.index.work import counts_labels
from dcd.scratch import scratch_folder
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.label_map import read_pool_labels
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.threads import taken_ahead

_NOTHING_TO_LEARN_FROM = {
    "posterior": "; unlabelled: posterior asks an image's neighbours, of which some need a label"
}


def build_index(
    store: Store,
    pool: str,
    encoder_id: str,
    shards: Sequence[str],
    labels: pa.Table | None,
    config: IndexConfig = IndexConfig(),  # noqa: B008 - frozen
    compact: bool = False,
) -> IndexInfo:
    """Cluster the embeddings of `shards` by label, unless such an index exists already.

    labels: image_id, label or weak_label, label; replaces the weak labels, images absent from it
    drop out, an image with several labels gets a row for each. Where an index of some of the shards
    exists, of the same labels and settings, the others are appended to it, unless `compact` asks
    for one whole: that one is the same, byte for byte, for the same embeddings. The process stays
    under `config.max_memory_bytes`; what does not fit is sorted on disk. Raises DataError if a
    shard is not embedded or its rows cannot be read, EncoderMismatch if another encoder made it,
    CountMismatch if rows were lost.
    """
    recipe = find_recipe(store, pool, encoder_id, shards, labels, config)
    return build_planned(store, recipe, planned_work(store, recipe, compact), config)


@dataclass(frozen=True)
class Recipe:
    """What an index is to be made of. labels: as `distinct_labels` gives them, or None."""

    pool: str
    encoder_id: str
    embedded: tuple[ShardEntry, ...]
    labels: pa.Table | None
    sources: Sources

    @property
    def dim(self) -> int:
        return self.embedded[0].dim

    @property
    def n_images(self) -> int:
        return sum(shard.n_embedded for shard in self.embedded)

    @property
    def prefix(self) -> str:
        """Of the index that is built of it as one whole."""
        return keys.index(self.pool, self.encoder_id, self.sources.index_id)


def find_recipe(
    store: Store,
    pool: str,
    encoder_id: str,
    shards: Sequence[str],
    labels: pa.Table | None,
    config: IndexConfig,
) -> Recipe:
    """Find what `build_index` makes an index of. Raises what it raises for the shards."""
    embedded = find_embedded(store, pool, encoder_id, shards)
    if labels is not None:
        labels = distinct_labels(labels)
    identities = [(shard.name, shard.identity) for shard in embedded]
    sources = sources_of(pool, encoder_id, identities, labels, config)
    return Recipe(pool, encoder_id, tuple(embedded), labels, sources)


def planned_work(store: Store, recipe: Recipe, compact: bool) -> IndexPlan:
    """Decide whether the index is there, is appended to, or is built anew."""
    return plan_index(
        store, recipe.pool, recipe.encoder_id, recipe.sources, recipe.n_images, compact
    )


def build_planned(
    store: Store, recipe: Recipe, planned: IndexPlan, config: IndexConfig
) -> IndexInfo:
    """Do what was planned, in this process."""
    if planned.base is None:
        return _build(store, recipe, config)
    if planned.work == "none":
        return _with_checked_ids(store, planned.base, config)
    return _append(store, planned.base, recipe.embedded, recipe.labels, config, recipe.sources)


def _build(store: Store, recipe: Recipe, config: IndexConfig) -> IndexInfo:
    dim, memory = recipe.dim, config.max_memory_bytes
    layout = trained_layout(store, recipe, config)
    observers = Observers(
        Tally(),
        BottomK(sample_rows(config, dim), schemas.clustered(dim)),
        Judge(layout.heldout, layout.codec),
    )
    read = read_rows(store, recipe.embedded, memory)
    rows = labelled(read, recipe.labels, dim, memory, observers.tally)
    taken = refuse_two_images(rows, (), memory)
    directory = _write_parts(
        store, recipe.prefix, taken, layout, dim, config, nothing_known, observers
    )
    info = info_of(recipe, directory, layout, observers, config)
    publish(store, info, directory, observers.sample, recipe.sources)
    return info


def info_of(
    recipe: Recipe, directory: pa.Table, layout: Layout, observers: Observers, config: IndexConfig
) -> IndexInfo:
    """Tell of an index that was written as one whole. directory: where its rows are."""
    lists = {
        label: _list_info(label, layout, observers.judge, config.recall_target)
        for label in sorted(layout.centroids)
    }
    index_id = recipe.sources.index_id
    info = IndexInfo(
        recipe.pool,
        recipe.encoder_id,
        index_id,
        recipe.dim,
        n_images=recipe.n_images,
        label_counts=_label_counts(directory),
        segments=(index_id,),
        storage=config.storage,
        code_recall=observers.judge.code_recall(),
        lists=lists,
        one_image_an_id=True,
        **asdict(observers.tally),
    )
    return replace(info, explanation=_explanation(info, config, observers.judge.n_queries()))


def _append(
    store: Store,
    base: IndexInfo,
    embedded: Sequence[ShardEntry],
    labels: pa.Table | None,
    config: IndexConfig,
    sources: Sources,
) -> IndexInfo:
    of_older = set(read_sources(store, base.prefix).shards)
    new = [shard for shard in embedded if (shard.name, shard.identity) not in of_older]
    index_id = keys.digest("appended", base.index_id, [[s.name, s.identity] for s in new])
    observers = _observers_of(base, config)
    read = read_rows(store, new, config.max_memory_bytes)
    rows = labelled(read, labels, base.dim, config.max_memory_bytes, observers.tally)
    directory = _write_segment(store, base, index_id, rows, observers, config)
    info = replace(
        base,
        index_id=index_id,
        n_images=base.n_images + sum(shard.n_embedded for shard in new),
        label_counts=_label_counts(directory),
        segments=(*base.segments, index_id),
        explanation=f"{base.explanation} Since then {len(base.segments)} times appended to; "
        "recall as measured before.",
        one_image_an_id=True,
        **asdict(observers.tally),
    )
    publish(store, info, directory, observers.sample, sources)
    return info


def append_labelled(
    store: Store,
    base: IndexInfo,
    index_id: str,
    rows: Iterator[pa.Table],
    finish: Callable[[str], PseudoLabelled],
    config: IndexConfig,
) -> IndexInfo:
    """Add images that `base` counts as unlabelled, under labels that were found for them.

    The new index shares all files of `base`, and adds a segment. rows: schemas.clustered(dim), a
    row for every shard that holds such an image; read once. finish: called with the new index's
    prefix after the last row, before the index is there: writes what else belongs to it. Raises
    what `build_index` raises.
    """
    observers = _observers_of(base, config)

    def counted() -> Iterator[pa.Table]:
        for piece in rows:
            observers.tally.n_unlabelled -= piece.num_rows
            yield piece

    directory = _write_segment(store, base, index_id, counted(), observers, config)
    pseudo = finish(keys.index(base.pool, base.encoder_id, index_id))
    info = replace(
        base,
        index_id=index_id,
        label_counts=_label_counts(directory),
        segments=(*base.segments, index_id),
        explanation=f"{base.explanation} Since then {pseudo.n_labelled:,} images without a label "
        "were added; recall as measured before.",
        pseudo=pseudo,
        **asdict(observers.tally),
    )
    # Its own recipe: what is appended to is always an index of given labels.
    sources = Sources(
        keys.digest("pseudo-labelled", index_id), read_sources(store, base.prefix).shards
    )
    publish(store, info, directory, observers.sample, sources)
    return info


def _observers_of(base: IndexInfo, config: IndexConfig) -> Observers:
    return Observers(
        Tally(base.n_rows, base.n_unlabelled, base.n_extra_labels, base.n_duplicates),
        BottomK(sample_rows(config, base.dim), schemas.clustered(base.dim)),
        Judge({}, None),
    )


def _write_segment(
    store: Store,
    base: IndexInfo,
    index_id: str,
    rows: Iterator[pa.Table],
    observers: Observers,
    config: IndexConfig,
) -> pa.Table:
    """Publish the vectors of new rows beside those of an older index; where all rows are then."""
    prefix = keys.index(base.pool, base.encoder_id, index_id)
    centroids = read_centroids(store, base.layout_prefix) if base.lists else {}
    layout = Layout(codec_of(store, base), centroids)
    observers.sample.take(pool_sample(store, base))
    of_base = read_directory(store, base)
    there = read_pieces(store, of_base, ID_COLUMNS)

    def known(label: str) -> pa.Table | None:
        runs = of_base.filter(pc.equal(of_base["label"], label))
        pieces = read_pieces(store, runs, ID_COLUMNS)
        found = [piece.drop_columns("list") for piece in pieces]
        return pa.concat_tables(found).combine_chunks() if found else None

    taken = refuse_two_images(rows, there, config.max_memory_bytes)
    added = _write_parts(store, prefix, taken, layout, base.dim, config, known, observers)
    return pa.concat_tables([of_base, added])


def _with_checked_ids(store: Store, index: IndexInfo, config: IndexConfig) -> IndexInfo:
    """Look once through an index that was written before an id had to name one image.

    Raises DataError if an id names two: what is selected on it would train on the wrong vector.
    """
    if index.one_image_an_id:
        return index
    there = read_pieces(store, read_directory(store, index), ID_COLUMNS)
    for _ in refuse_two_images((), there, config.max_memory_bytes):
        pass
    checked = replace(index, one_image_an_id=True)
    write_info(store, checked)
    return checked


def _write_parts(
    store: Store,
    prefix: str,
    rows: Iterator[pa.Table],
    layout: Layout,
    dim: int,
    config: IndexConfig,
    known: Callable[[str], pa.Table | None],
    observers: Observers,
) -> pa.Table:
    """Publish the files of vectors; which rows of them hold which label."""
    with (
        scratch_folder("cluster") as folder,
        sort_by_label(dim, folder, config.max_memory_bytes) as gathered,
    ):
        gather(rows, layout, observers.sample, gathered, dim)
        parts = cluster(gathered, layout, dim, known, observers, folder)
        return publish_parts(store, prefix, parts, 0)


def publish_parts(
    store: Store, prefix: str, parts: Generator[Part, None, None], first: int
) -> pa.Table:
    """Publish files of vectors, numbered from `first` on; which rows of them hold which label."""
    runs = [DIRECTORY.empty_table()]
    for number, part in enumerate(taken_ahead([parts]), first):  # one is written, one goes out
        key = keys.index_vectors(prefix, number)
        store.publish_file(part.path, key, by_link=True)
        part.path.unlink()
        runs.append(part.runs.append_column("part", pa.repeat(key, part.runs.num_rows)))
    return pa.concat_tables(runs)


def publish(
    store: Store,
    info: IndexInfo,
    directory: pa.Table,
    sample: BottomK,
    sources: Sources,
    before_last: Callable[[], None] | None = None,
) -> None:
    """Publish all but the files of vectors, index.json last.

    before_last: called before that one. Raises CountMismatch if the counts do not reconcile.
    """
    _reconcile(info)
    store.write_table(keys.index_labels(info.prefix), directory)
    with scratch_folder("sample") as folder:
        file = folder / "sample.parquet"
        write_sample(sample.table(), file)
        store.publish_file(file, keys.index_sample(info.prefix), by_link=True)
    store.write_json(keys.index_sources(info.prefix), sources.document(), indent=None)
    if before_last is not None:
        before_last()
    write_info(store, info)


def nothing_known(label: str) -> None:
    """Say of a new index that it holds no row of a label yet."""


def trained_layout(store: Store, recipe: Recipe, config: IndexConfig) -> Layout:
    """Train lists and codes on the rows, where there will be such, and publish them."""
    dim, memory = recipe.dim, config.max_memory_bytes

    def rows() -> Iterator[pa.Table]:
        read = read_rows(store, recipe.embedded, memory)
        return labelled(read, recipe.labels, dim, memory, Tally())

    layout = plan(_planned_counts(store, recipe, config), dim, config, rows)
    write_layout(store, recipe.prefix, layout)
    return layout


def _planned_counts(store: Store, recipe: Recipe, config: IndexConfig) -> dict[str, int]:
    """Rows by label, repeated images included; {} where no label can be too large to scan."""
    embedded, labels = recipe.embedded, recipe.labels
    if not counts_labels(labels is None, recipe.n_images, recipe.dim, config):
        return {}
    if labels is not None and "image_id" in labels.column_names:
        return dict(_value_counts(labels["label"]))
    weak: Counter[str] = Counter()
    for batch in read_labels(store, embedded):
        weak.update(dict(_value_counts(batch.column("weak_label").drop_null())))
    if labels is None:
        return dict(weak)
    counts: Counter[str] = Counter()
    pairs = zip(labels["weak_label"].to_pylist(), labels["label"].to_pylist(), strict=True)
    for weak_label, label in pairs:
        counts[label] += weak[weak_label]
    return {label: n for label, n in counts.items() if n}


def _value_counts(labels: pa.Array | pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    found = pc.value_counts(labels)
    return zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)


def _list_info(label: str, layout: Layout, judge: Judge, recall_target: float) -> ListInfo:
    centroids = layout.centroids[label]
    recall = judge.list_recall(label, centroids)
    n_probed = next((n for n, share in recall.items() if share >= recall_target), len(centroids))
    return ListInfo(
        len(centroids),
        n_probed,
        layout.n_train[label],
        judge.n_queries(label),
        {str(n): share for n, share in recall.items()},
    )


def _explanation(info: IndexInfo, config: IndexConfig, n_heldout: int) -> str:
    """Why the index is laid out as it is, in a few sentences."""
    flat = {label: n for label, n in info.label_counts.items() if label not in info.lists}
    limit = f"max_scan_bytes = {config.max_scan_bytes:,}"
    said = []
    if flat:
        largest = max(flat, key=lambda label: flat[label])
        said.append(
            f"{len(flat)} labels are scanned, exactly: the largest, {largest!r}, has "
            f"{flat[largest]:,} rows of {2 * info.dim} bytes, not more than {limit}."
        )
    for label, found in info.lists.items():
        said.append(
            f"{label!r} has {info.label_counts.get(label, 0):,} rows, more than {limit}: "
            f"{found.n_probed} of {found.n_lists} lists are probed, recall@{RECALL_K} "
            f"{found.recall[str(found.n_probed)]} on {found.n_heldout} held-out images (target "
            f"{config.recall_target})."
        )
    if info.code_recall is not None:
        said.append(
            f"Vectors are stored as {config.storage}: recall@{RECALL_K} {info.code_recall} against "
            f"float16 on {n_heldout} held-out images."
        )
    return " ".join(said)


def _label_counts(directory: pa.Table) -> dict[str, int]:
    sums = directory.group_by("label", use_threads=False).aggregate([("n_rows", "sum")])
    pairs = zip(sums["label"].to_pylist(), sums["n_rows_sum"].to_pylist(), strict=True)
    return dict(sorted(pairs))


def _reconcile(info: IndexInfo) -> None:
    kept = info.n_images - info.n_unlabelled - info.n_duplicates + info.n_extra_labels
    in_labels = sum(info.label_counts.values())
    if not kept == info.n_rows == in_labels:
        raise CountMismatch(
            f"index {info.index_id} of pool {info.pool}: {info.n_images} images embedded - "
            f"{info.n_unlabelled} unlabelled - {info.n_duplicates} duplicates + "
            f"{info.n_extra_labels} extra labels = {kept}, but {info.n_rows} rows written and "
            f"{in_labels} listed by label; nothing was published, report this"
        )


def cluster_pool(
    store: Store,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    pool: PoolConfig,
    config: IndexConfig = IndexConfig(),  # noqa: B008 - frozen
    compact: bool = False,
) -> IndexInfo:
    """Rewrite the pool's embeddings clustered by label, as its labels table and label map say."""
    labels = read_pool_labels(pool)
    names = [shard.name for shard in shards]
    index = build_index(store, source.id, encoder_id, names, labels, config, compact)
    return never_empty(index, pool)


def never_empty(index: IndexInfo, pool: PoolConfig) -> IndexInfo:
    """Hand an index on. Raises DataError if it holds nothing."""
    if index.n_rows == 0:
        raise DataError(
            f"pool: none of the images of {pool.images} could be embedded and has a label; "
            "see the rejects and check `labels`, `where` and `label_map`"
            + _NOTHING_TO_LEARN_FROM.get(pool.unlabelled, "")
        )
    return index
