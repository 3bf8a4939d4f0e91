"""Count the ids of a pool, without a vector: which rows the files of its index will hold.

The rows pass through the same join and the same sort as those with vectors, with one zero in the
place of each vector. So what is counted is what will be written.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.config import IndexConfig
from dcd.embeddings.read import ShardEntry, read_ids
from dcd.index.build import Recipe
from dcd.index.identities import refuse_two_images
from dcd.index.layout import Layout, sample_rows
from dcd.index.sample import BottomK
from dcd.index.shares.plan import Chunk, PlannedPart, planned_parts
from dcd.index.sort import Sizes, Tally, distinct_chunks, gather, labelled, sort_by_label
from dcd.scratch import scratch_folder
from dcd.store import Store
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.tables import schemas
from dcd.tables.vectors import vector_lists
from dcd.threads import taken_ahead

_DIM = 1


@dataclass(frozen=True)
class Survey:
    """What an index will hold. tally: its counts. last_label: of its last row.

    sample_cutoff: no row of the sample has a content hash that begins with a larger number.
    """

    parts: tuple[PlannedPart, ...]
    tally: Tally
    last_label: str
    sample_cutoff: int


def survey(store: Store, recipe: Recipe, config: IndexConfig, sizes: Sizes) -> Survey:
    """Count the rows of an index of labels without lists, in `config.max_memory_bytes`.

    Raises DataError if an id names two images, as building does.
    """
    memory, tally = config.max_memory_bytes, Tally()
    sample = BottomK(sample_rows(config, recipe.dim), schemas.clustered(_DIM))
    rows = labelled(_ids(store, recipe.embedded), recipe.labels, _DIM, memory, tally)
    last = ""

    def chunks() -> Iterator[Chunk]:
        nonlocal last
        for rows in distinct_chunks(gathered, sizes.group_rows, tally):
            last = rows["weak_label"][0].as_py()
            yield Chunk(last, rows["image_id"][0].as_py(), rows.num_rows)

    with scratch_folder("ids") as folder, sort_by_label(_DIM, folder, memory) as gathered:
        taken = refuse_two_images(rows, (), memory)
        gather(taken, Layout(None, {}), sample, gathered, _DIM)
        parts = planned_parts(chunks(), sizes)
    return Survey(tuple(parts), tally, last, sample.cutoff)


def _ids(store: Store, shards: Sequence[ShardEntry]) -> Iterator[pa.RecordBatch]:
    """Rows as `read_rows` gives them, of vectors of one zero; small reads, so many at once."""
    n = min(REQUESTS_AT_ONCE, len(shards))
    return taken_ahead([_ids_of(store, shards[start::n]) for start in range(n)])


def _ids_of(store: Store, shards: Sequence[ShardEntry]) -> Generator[pa.RecordBatch, None, None]:
    schema = schemas.embeddings(_DIM)
    kind = schema.field("embedding").type
    for batch in read_ids(store, shards):
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns["embedding"] = vector_lists(np.zeros((batch.num_rows, _DIM), np.float16), kind)
        names = [*schema.names, "shard"]
        yield pa.record_batch([columns[name] for name in names], names=names)
