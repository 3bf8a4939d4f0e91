"""Reckon what indexing a pool and selecting from it will cost, once it is embedded. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig
from dcd.embeddings import read
from dcd.estimate.embedding import Pool, StageCost
from dcd.estimate.index_files import index_files
from dcd.estimate.pool_state import PlannedIndex
from dcd.estimate.synthetic_rows import table_bytes
from dcd.index.quantizers import code_bytes_of
from dcd.index.row_groups import reading_requests
from dcd.index.work import appending_work, building_work
from dcd.store.requests import Requests, table_requests, total
from dcd.tables import schemas
from dcd.tables.rows import with_column

_HASH_BYTES = schemas.CONTENT_HASH.byte_width


@dataclass(frozen=True)
class IndexCost:
    """The cost of an index, and what it then is: rows by label, bytes of a row, its directory."""

    stage: StageCost
    counts: Mapping[str, int]
    row_bytes: float
    runs: pa.Table


def indexing_cost(
    pool: Pool, index: PlannedIndex, config: IndexConfig, labels: pa.Table | None
) -> IndexCost:
    """Reckon the stage that indexes a pool.

    labels: image_id, label or weak_label, label; None: the weak labels.
    """
    base = index.plan.base
    found = read.SHARD_FOUND * len(pool.shards) + index.plan.requests
    dim = pool.rows.schema.field("embedding").type.list_size
    row_bytes = code_bytes_of(config.storage, dim, config.pq_bytes) + _HASH_BYTES
    there = {} if base is None else dict(base.label_counts)
    runs = pa.table({}) if index.directory is None else index.directory
    n_new = pool.n_embedded - (0 if base is None else base.n_images)
    if index.plan.work == "none" or n_new <= 0:
        return IndexCost(_stage(pool, found, note="it is there"), there, row_bytes, runs)
    rows = _labelled(pool.rows, labels)
    if rows.num_rows == 0:
        note = "no image of the sample has a label"
        return IndexCost(_stage(pool, found, note=note), there, row_bytes, runs)
    counts = _counts(rows, round(n_new * rows.num_rows / pool.rows.num_rows))
    files = index_files(rows, counts, index.sources, config, base, index.directory)
    n_shards = max(1, len(pool.shards) - index.n_shards_there)
    shard_bytes = table_bytes(pool.rows.drop_columns("shard"), n_new // n_shards)
    if base is None:
        work = building_work(n_shards, shard_bytes, pool.n_embedded, labels, config, files)
    else:
        work = appending_work(n_shards, shard_bytes, list(counts), base, runs, files)
    stage = _stage(
        pool,
        found + work.requests,
        sum(counts.values()),
        work.n_passes * n_shards * shard_bytes,
        sum(files.each),
        "" if base is None else f"appended to an index of {base.n_images:,} images",
    )
    every = {label: there.get(label, 0) + counts.get(label, 0) for label in {*there, *counts}}
    return IndexCost(stage, every, sum(files.vectors) / sum(counts.values()), files.runs)


def selecting_cost(
    pool: Pool, index: IndexCost, failing: Sequence[frozenset[str] | None], n_selections: int
) -> StageCost:
    """Reckon one search of the index for every seed and selection.

    failing: the failures' labels at every seed, None where they are unknown.
    """
    known = [labels for labels in failing if labels is not None]
    n_rows = [sum(index.counts.get(label, 0) for label in labels) for labels in known]
    searches = (
        table_requests(0)
        + reading_requests(
            index.runs.filter(pc.is_in(index.runs["label"], value_set=pa.array(sorted(labels))))
        )
        for labels in known
        if labels and index.runs.num_rows
    )
    requests = total(searches) * n_selections
    note = "one search for each seed and selection; judging labels and weighing picks read again"
    if len(known) < len(failing):
        note = "the labels of the error sample are not known before its images are read"
    return StageCost(
        "select",
        max(n_rows, default=0),
        round(n_selections * sum(n_rows) * index.row_bytes),
        0,
        None,
        requests if pool.store_is_remote else None,
        n_selections * len(failing),
        None,
        note,
    )


def _stage(
    pool: Pool,
    requests: Requests,
    n_rows: int = 0,
    n_bytes_read: int = 0,
    n_bytes_written: int = 0,
    note: str = "",
) -> StageCost:
    store = requests if pool.store_is_remote else None
    hours = None if n_rows else 0.0
    return StageCost("index", n_rows, n_bytes_read, n_bytes_written, None, store, 1, hours, note)


def _labelled(rows: pa.Table, labels: pa.Table | None) -> pa.Table:
    """schemas.clustered(D): the rows as the index takes them in, one for each of their labels."""
    schema = schemas.clustered(rows.schema.field("embedding").type.list_size)
    if labels is None:
        return schemas.conform(rows.filter(pc.is_valid(rows["weak_label"])), schema, "sample")
    key = "image_id" if "image_id" in labels.column_names else "weak_label"
    numbered = rows.select([key]).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    pairs = numbered.join(labels.select([key, "label"]), key, join_type="inner").sort_by("row")
    taken = rows.take(pairs["row"].combine_chunks())
    return schemas.conform(with_column(taken, "weak_label", pairs["label"]), schema, "sample")


def _counts(rows: pa.Table, n_rows: int) -> dict[str, int]:
    """So many rows by label, in the shares that the labels have here."""
    found = rows.group_by("weak_label", use_threads=False).aggregate([("weak_label", "count")])
    found = found.sort_by("weak_label")
    ends = np.round(np.cumsum(found["weak_label_count"].to_numpy()) * n_rows / rows.num_rows)
    counts = np.diff(ends.astype(int), prepend=0).tolist()
    shares = zip(found["weak_label"].to_pylist(), counts, strict=True)
    return {label: n for label, n in shares if n}
