"""Count the sorted ids of a pool, without a vector: which rows the files of its index will hold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.index.identities import refuse_two_images
from dcd.index.shares.begun import BegunIndex
from dcd.index.shares.plan import Chunk, Place, PlannedPart, planned_parts
from dcd.index.shares.runs import counts_of, ids_of_runs
from dcd.index.sort import Tally, distinct_chunks, sort_by_label, wire_schema
from dcd.scratch import scratch_folder
from dcd.store import Store
from dcd.tables.vectors import to_blobs

_DIM = 1  # the place of a vector is taken by one zero


@dataclass(frozen=True)
class Survey:
    """What an index will hold. tally: its counts.

    sample_cutoff: no row of the sample has a content hash that begins with a larger number.
    """

    parts: tuple[PlannedPart, ...]
    tally: Tally
    sample_cutoff: int


def survey(store: Store, begun: BegunIndex, max_memory_bytes: int) -> Survey:
    """Count the rows of an index, once all its runs are there.

    Raises DataError if an id names two images, as building does.
    """
    tally = Tally()
    for run in begun.runs:
        of_run = counts_of(store, begun, run)
        tally.n_unlabelled += of_run.n_unlabelled
        tally.n_extra_labels += of_run.n_extra_labels
    sample = begun.sample(2**64 - 1)
    with (
        scratch_folder("ids") as folder,
        sort_by_label(_DIM, folder, max_memory_bytes) as gathered,
    ):
        ids = refuse_two_images(ids_of_runs(store, begun), (), max_memory_bytes)
        for rows in sample.seeing(ids):
            gathered.take(_with_zeros(rows))
        chunks = _chunks(distinct_chunks(gathered, begun.sizes.group_rows, tally))
        parts = planned_parts(chunks, begun.sizes)
    return Survey(tuple(parts), tally, sample.cutoff)


def _chunks(tables: Iterator[pa.Table]) -> Iterator[Chunk]:
    for rows in tables:
        names = ("weak_label", "list", "image_id")
        yield Chunk(Place(*(rows[name][0].as_py() for name in names)), rows.num_rows)


def _with_zeros(ids: pa.Table) -> pa.Table:
    schema = wire_schema(_DIM)
    columns = {name: ids[name] for name in ids.column_names}
    zeros = to_blobs(np.zeros((ids.num_rows, _DIM), np.float16))
    columns["embedding"] = pa.chunked_array([zeros])
    return pa.table([columns[name] for name in schema.names], schema=schema)
