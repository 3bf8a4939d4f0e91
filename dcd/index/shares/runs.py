"""Sort the rows of some shards by label for other workers, and read of that what one needs.

A run lies in the store as one Parquet file, in row groups of a few megabytes whose first rows are
noted beside it. So a worker reads its own rows of every run, and at most two row groups more.
"""

from collections.abc import Generator, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from dcd.embeddings.read import read_rows
from dcd.index.parts import WRITING
from dcd.index.shares.begun import BegunIndex, Run
from dcd.index.shares.plan import Share
from dcd.index.sort import Tally, labelled, sort_by_label, to_wire, wire_schema
from dcd.scratch import scratch_folder
from dcd.store import Store, keys
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.threads import cores, taken_ahead

_GROUP_BYTES = 2**22
_MAX_READERS = 4  # as of shards
_ID_COLUMNS = ["weak_label", "list", "image_id", "shard", "content_hash"]
_PLACE = ["weak_label", "list", "image_id"]


def write_run(store: Store, begun: BegunIndex, run: Run) -> None:
    """Read the shards of a run once, and publish their rows in the order of the index.

    Nothing is done where the run is there. Takes `begun.config.max_memory_bytes`, beside a labels
    table. Raises what `build_index` raises.
    """
    key, note = (key(begun.prefix, run.id) for key in (keys.index_run, keys.index_run_groups))
    if store.exists(note) and store.exists(key):
        return
    dim, memory, tally = begun.recipe.dim, begun.config.max_memory_bytes, Tally()
    labels = None
    if begun.has_labels:
        labels = store.read_table(keys.index_share_labels(begun.prefix))
    layout, schema = begun.layout(store), wire_schema(dim)
    with (
        scratch_folder("cluster") as folder,
        sort_by_label(dim, folder, memory) as gathered,
    ):
        for rows in labelled(read_rows(store, run.shards, memory), labels, dim, memory, tally):
            gathered.take(to_wire(rows, schema, layout))
        file = folder / "run.parquet"
        firsts = [schema.empty_table().select(_PLACE)]
        with pq.ParquetWriter(file, schema, **WRITING) as writer:
            for group in _of_equal_size(gathered.sorted(), max(1, _GROUP_BYTES // (2 * dim))):
                firsts.append(group.slice(0, 1).select(_PLACE))
                writer.write_table(group, row_group_size=group.num_rows)
        store.publish_file(file, key, by_link=True)
    counts = {"unlabelled": str(tally.n_unlabelled), "extra_labels": str(tally.n_extra_labels)}
    store.write_table(note, pa.concat_tables(firsts).combine_chunks(), metadata=counts)


def counts_of(store: Store, begun: BegunIndex, run: Run) -> Tally:
    """Tell of how many images a run has no row, and how many rows are further labels of one."""
    counts = store.read_metadata(keys.index_run_groups(begun.prefix, run.id))
    return Tally(n_unlabelled=int(counts["unlabelled"]), n_extra_labels=int(counts["extra_labels"]))


def ids_of_runs(store: Store, begun: BegunIndex) -> Iterator[pa.Table]:
    """Yield the rows of all runs without their vectors; small reads, so many at once."""

    def ids_of(runs: tuple[Run, ...]) -> Generator[pa.Table, None, None]:
        for run in runs:
            with store.open_parquet(keys.index_run(begun.prefix, run.id)) as file:
                for number in range(file.metadata.num_row_groups):
                    yield file.row_group(number, _ID_COLUMNS)

    n = min(REQUESTS_AT_ONCE, len(begun.runs))
    return taken_ahead([ids_of(begun.runs[start::n]) for start in range(n)])


def rows_of_share(store: Store, begun: BegunIndex, share: Share) -> Iterator[pa.Table]:
    """Yield the rows of one share, of all runs: wire_schema, in any order."""
    schema = wire_schema(begun.recipe.dim)

    def rows_of(runs: tuple[Run, ...]) -> Generator[pa.Table, None, None]:
        for run in runs:
            groups = share.groups_of(store.read_table(keys.index_run_groups(begun.prefix, run.id)))
            if not groups:
                continue
            with store.open_parquet(keys.index_run(begun.prefix, run.id)) as file:
                for number in groups:
                    rows = share.rows_of(file.row_group(number))
                    if rows.num_rows:
                        yield rows.cast(schema)

    n = min(cores(), _MAX_READERS, len(begun.runs))
    return taken_ahead([rows_of(begun.runs[start::n]) for start in range(n)])


def _of_equal_size(tables: Iterator[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    """The rows in pieces of n_rows, but for the last."""
    waiting: list[pa.Table] = []
    n_waiting = 0
    for table in tables:
        waiting.append(table)
        n_waiting += table.num_rows
        if n_waiting >= n_rows:
            joined = pa.concat_tables(waiting)
            n_whole = n_waiting // n_rows * n_rows
            yield from (joined.slice(start, n_rows) for start in range(0, n_whole, n_rows))
            waiting, n_waiting = [joined.slice(n_whole)], n_waiting - n_whole
    if n_waiting:
        yield pa.concat_tables(waiting)
