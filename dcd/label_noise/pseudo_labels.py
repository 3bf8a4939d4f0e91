"""Give images of the pool that came without a label the class that they most probably are.

The same two kinds of evidence as for trust in a given label (`dcd.label_noise.trust`): a classifier
fitted to train, and the given labels of the image's neighbours in the pool. Where both together are
sure of a class, the image is used under it; Lee, "Pseudo-label: the simple and efficient
semi-supervised learning method for deep neural networks" (ICML workshop 2013), with the threshold
of Sohn et al., "FixMatch" (NeurIPS 2020). The error sample has no part in it, so that new failures
leave the pool's labels as they are, nor has any image that judges a model.

The labels are a function of the index of given labels, of train and of the threshold. They are kept
with an index of their own, which adds a segment to the other one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, PoolConfig
from dcd.embeddings.read import ShardEntry, find_embedded, read_ids, read_rows
from dcd.index.build import append_labelled
from dcd.index.info import IndexInfo, PseudoLabelled, index_info, info_key
from dcd.index.read import read_directory
from dcd.index.row_groups import read_pieces
from dcd.label_noise.agreement import neighbor_labels
from dcd.label_noise.pool_agreement import pool_reference
from dcd.label_noise.trust import class_posterior, clean_head
from dcd.progress import live
from dcd.scratch import scratch_folder
from dcd.splits.label_map import Unlabelled, read_unlabelled
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.sql import connect, named_rows
from dcd.tables.vectors import embedding_matrix
from dcd.training.head import LinearHead, probabilities

# Raised whenever the same pool and train would get other labels.
_FORMAT = 1
_BATCH_ROWS = 65_536
_IDS = pa.schema(
    [
        pa.field("weak_label", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("content_hash", schemas.CONTENT_HASH),
        pa.field("shard", pa.string()),
    ]
)


def label_unlabelled(
    store: Store,
    pool: PoolConfig,
    shards: Sequence[str],
    base: IndexInfo,
    train: SplitInfo,
    config: IndexConfig = IndexConfig(),  # noqa: B008 - frozen
) -> IndexInfo:
    """Return an index that also holds images without a label, under the class that is sure.

    base: the index of the given labels of these shards. It is returned as it is where the config
    leaves such images out, or where there are none. Of each the ids are held in memory. Raises what
    `build_index` raises.
    """
    if pool.unlabelled == "left_out":
        return base
    unlabelled = read_unlabelled(pool)
    made_from = [base.index_id, train.id, pool.min_posterior, unlabelled.digest]
    index_id = keys.digest("pseudo-labels", _FORMAT, *made_from)
    if store.exists(info_key(base.pool, base.encoder_id, index_id)):
        return index_info(store, base.pool, base.encoder_id, index_id)
    embedded = find_embedded(store, base.pool, base.encoder_id, shards)
    images = _images_without_label(store, embedded, unlabelled, config.max_memory_bytes)
    if images.num_rows == 0:
        return base
    fresh = _not_known(store, base, images)
    labelling = _Labelling(store, base, train, pool.min_posterior)

    def finish(prefix: str) -> PseudoLabelled:
        found = labelling.table()
        store.write_table(keys.index_pseudo_labels(prefix), found)
        n_known = images.num_rows - fresh.num_rows
        n_labelled = labelling.n_labelled
        n_unsure = fresh.num_rows - n_labelled
        return PseudoLabelled(
            base.index_id, pool.min_posterior, images.num_rows, n_labelled, n_unsure, n_known
        )

    wanted = dict(_by_shard(fresh))
    read = read_rows(store, [s for s in embedded if s.name in wanted], config.max_memory_bytes)
    rows = labelling.labelled(read, wanted)
    return append_labelled(store, base, index_id, rows, finish, config)


def read_pseudo_labels(store: Store, index: IndexInfo) -> pa.Table:
    """Read schemas.PSEUDO_LABELS of an index, by image_id; no rows where all labels are given."""
    if index.pseudo is None:
        return schemas.PSEUDO_LABELS.empty_table()
    table = store.read_table(keys.index_pseudo_labels(index.prefix))
    return schemas.conform(table, schemas.PSEUDO_LABELS, "pseudo-labels")


class _Labelling:
    """Labels rows as they pass, and remembers what it gave."""

    def __init__(self, store: Store, base: IndexInfo, train: SplitInfo, min_posterior: float):
        self._reference = pool_reference(store, base)
        self._head = clean_head(split_table(store, train))
        self._dim, self._least = base.dim, min_posterior
        self._given: list[pa.Table] = []
        self.n_labelled = 0

    def labelled(
        self, read: Iterator[pa.RecordBatch], wanted: dict[str, pa.Array]
    ) -> Iterator[pa.Table]:
        """Yield schemas.clustered(dim) of the images that are sure. wanted: ids, by shard."""
        n = sum(map(len, wanted.values()))
        with live.stage("label the unlabelled", n, "images") as stage:
            for batch in read:
                rows = pa.table(batch)
                ids = wanted[batch.column("shard")[0].as_py()]
                rows = rows.filter(pc.is_in(rows["image_id"], value_set=ids))
                if rows.num_rows:
                    yield self._sure(rows)
                    stage.advance(rows.num_rows)
            stage.outcome = f"{self.n_labelled:,} of {n:,} are sure of a class"

    def _sure(self, rows: pa.Table) -> pa.Table:
        label, posterior = most_probable(self._head, self._votes(rows), rows)
        sure = pa.array(posterior >= self._least)
        rows = rows.filter(sure)
        label = label.filter(sure)
        columns = [rows["image_id"], label, pa.array(posterior).filter(sure)]
        self._given.append(pa.table(columns, schema=schemas.PSEUDO_LABELS))
        self.n_labelled += rows.num_rows
        at = rows.schema.get_field_index("weak_label")
        return schemas.conform(
            rows.set_column(at, "weak_label", label), schemas.clustered(self._dim), "pool"
        )

    def _votes(self, rows: pa.Table) -> tuple[np.ndarray, pa.Array]:
        return neighbor_labels(self._reference, rows), self._reference.classes

    def table(self) -> pa.Table:
        """schemas.PSEUDO_LABELS of all that was given, an image once, by image_id."""
        given = pa.concat_tables([schemas.PSEUDO_LABELS.empty_table(), *self._given])
        once = given.group_by(["image_id", "label"], use_threads=False)
        once = once.aggregate([("posterior", "max")]).sort_by("image_id")
        return schemas.conform(
            once.rename_columns(schemas.PSEUDO_LABELS.names), schemas.PSEUDO_LABELS, "pseudo-labels"
        )


def most_probable(
    head: LinearHead, votes: tuple[np.ndarray, pa.Array], rows: pa.Table
) -> tuple[pa.Array, np.ndarray]:
    """Return the likeliest class of each row and its probability, (N,) float32 in 0…1.

    votes: of its neighbours, codes and what they stand for. rows: embedding. Rounded to four
    decimals: what is beyond hangs on how many rows are asked about at once.
    """
    found = probabilities(head, embedding_matrix(rows))
    _, posterior = class_posterior(*votes, found, head.classes)
    best = posterior.argmax(axis=1)
    classes = pa.array(head.classes, pa.string())
    of_best = posterior[np.arange(len(best)), best]
    return classes.take(pa.array(best)), of_best.round(4).astype(np.float32)


def _images_without_label(
    store: Store, embedded: Sequence[ShardEntry], unlabelled: Unlabelled, max_memory_bytes: int
) -> pa.Table:
    """image_id, content_hash and shard of the images without a label, by shard and image_id."""
    batches = (_conformed(batch) for batch in read_ids(store, embedded))
    if unlabelled.named is None:
        found = [batch.filter(batch.column("weak_label").is_null()) for batch in batches]
        table = pa.Table.from_batches(found, _IDS)
    else:
        ids, named = unlabelled.named, False
        if unlabelled.only is not None:
            ids, named = unlabelled.only, True
        with (
            scratch_folder("unlabelled") as scratch,
            connect(max_memory_bytes // 4, scratch) as connection,
        ):
            among = pa.table({"image_id": ids})
            wire = (_as_blobs(batch) for batch in batches)
            rows = named_rows(connection, _WIRE, wire, among, _BATCH_ROWS, named=named)
            found = [_conformed(batch) for batch in rows]
        table = pa.Table.from_batches(found, _IDS)
    return table.sort_by([("shard", "ascending"), ("image_id", "ascending")])


_WIRE = _IDS.set(_IDS.get_field_index("content_hash"), pa.field("content_hash", pa.binary()))


def _as_blobs(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.cast(_WIRE)


def _conformed(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(_IDS.names).cast(_IDS)


def _not_known(store: Store, base: IndexInfo, images: pa.Table) -> pa.Table:
    """The images whose picture the index does not hold under a given label."""
    mine = _contents(images["content_hash"])
    order = np.argsort(mine, kind="stable")
    in_order = mine[order]
    known = np.zeros(len(mine), bool)
    directory = read_directory(store, base)
    for piece in read_pieces(store, directory, ["content_hash"]):
        theirs = np.unique(_contents(piece["content_hash"]))
        first = np.searchsorted(in_order, theirs, "left")
        last = np.searchsorted(in_order, theirs, "right")
        for start, stop in zip(first[last > first], last[last > first], strict=True):
            known[order[start:stop]] = True
    return images.filter(pa.array(~known))


def _contents(column: pa.ChunkedArray) -> np.ndarray:
    """Contents as numpy compares them: (N,) bytes of 16."""
    blobs = column.combine_chunks().cast(pa.binary())
    return np.array(blobs.to_pylist(), "S16")


def _by_shard(images: pa.Table) -> Iterator[tuple[str, pa.Array]]:
    """The ids of every shard. images: by shard."""
    shards = images["shard"].combine_chunks()
    runs = pc.run_end_encode(shards)
    start = 0
    for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield name, images["image_id"].slice(start, end - start).combine_chunks()
        start = end
