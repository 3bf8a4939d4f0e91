"""Plan which worker sorts which shards, and which writes which files: pure functions of counts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, RunnerConfig
from dcd.index.parts import grouped
from dcd.index.sort import Sizes
from dcd.store import keys

_LEAST_MEMORY_BYTES = 2**29  # of a worker: with less its libraries alone take a good part


@dataclass(frozen=True, order=True)
class Place:
    """Where a row stands in the order of an index."""

    label: str
    number: int  # of the list, NO_LIST in labels without lists
    image_id: str


@dataclass(frozen=True)
class Chunk:
    """Neighbouring rows of one label and list; first: the place of the first of them."""

    first: Place
    num_rows: int


@dataclass(frozen=True)
class PlannedPart:
    """A file of vectors: where it begins, and how many rows it has."""

    first: Place
    n_rows: int


@dataclass(frozen=True)
class Share:
    """The files that one worker writes: those from number `first_part` on, of so many rows each.

    first: of its rows. beyond: the first row of the next share, None in the last one.
    """

    first_part: int
    part_rows: tuple[int, ...]
    first: Place
    beyond: Place | None

    @property
    def n_rows(self) -> int:
        return sum(self.part_rows)

    @property
    def id(self) -> str:
        """Tells it from every other share of the same index, also of other numbers of workers."""
        places = (asdict(self.first), None if self.beyond is None else asdict(self.beyond))
        return keys.digest(self.first_part, self.part_rows, places)

    def rows_of(self, rows: pa.Table) -> pa.Table:
        """Return the rows that belong to it. rows: weak_label, list, image_id and others."""
        is_in = _not_before(rows, self.first)
        if self.beyond is not None:
            is_in = pc.and_not(is_in, _not_before(rows, self.beyond))
        return rows.filter(is_in)

    def groups_of(self, firsts: pa.Table) -> list[int]:
        """Return the row groups of sorted rows that may hold some of its rows.

        firsts: weak_label, list, image_id of the first row of each.
        """
        # The group before the first that begins in it may end in it.
        start = max(0, firsts.num_rows - _n_not_before(firsts, self.first) - 1)
        end = firsts.num_rows
        if self.beyond is not None:
            end -= _n_not_before(firsts, self.beyond)
        return list(range(start, end))


def planned_parts(chunks: Iterator[Chunk], sizes: Sizes) -> list[PlannedPart]:
    """Tell the files that chunks in order give, by the rules of `dcd.index.parts.cut_parts`.

    chunks: of sizes.group_rows rows, but for the last of a label and list.
    """
    parts: list[PlannedPart] = []
    first: Place | None = None
    n_rows = 0
    for group in grouped(chunks, sizes.own_group_rows):
        n_new = sum(chunk.num_rows for chunk in group)
        if first is not None and n_rows + n_new > sizes.part_rows:
            parts.append(PlannedPart(first, n_rows))
            first, n_rows = None, 0
        first = first or group[0].first
        n_rows += n_new
    if first is not None:
        parts.append(PlannedPart(first, n_rows))
    return parts


def shares_of(parts: Sequence[PlannedPart], n_shares: int) -> tuple[Share, ...]:
    """Cut the files, in order, into at most `n_shares` shares of nearly equally many rows.

    The largest share comes first: it is begun first.
    """
    if not parts:
        return ()
    bounds = _bounds([part.n_rows for part in parts], n_shares)
    shares = [
        Share(
            start,
            tuple(part.n_rows for part in parts[start:end]),
            parts[start].first,
            parts[end].first if end < len(parts) else None,
        )
        for start, end in pairwise(bounds)
    ]
    return tuple(sorted(shares, key=lambda share: (-share.n_rows, share.first_part)))


def batches_of(n_rows: Sequence[int], n_batches: int) -> list[range]:
    """Cut shards of so many rows, in order, into at most `n_batches` batches of nearly equal size.

    Returns the places of each batch's shards.
    """
    return [range(start, end) for start, end in pairwise(_bounds(n_rows, n_batches))]


@dataclass(frozen=True)
class Workers:
    """How many workers build an index at once, and the memory of each."""

    n: int
    memory_bytes: int


def workers_of(runner: RunnerConfig, config: IndexConfig) -> Workers:
    """Tell how many workers of a runner build an index: one where it has threads only.

    `index.max_memory_bytes` holds for a machine. Workers on this one share it, and are as many as
    have 512 MiB each; a cluster with an address has as many machines as workers.
    """
    memory = config.max_memory_bytes
    if runner.kind == "thread":
        return Workers(1, memory)
    if runner.address is not None:
        return Workers(runner.max_workers, memory)
    n = max(1, min(runner.max_workers, memory // _LEAST_MEMORY_BYTES))
    return Workers(n, memory // n)


def _not_before(rows: pa.Table, place: Place) -> pa.ChunkedArray:
    labels, lists, ids = rows["weak_label"], rows["list"], rows["image_id"]
    in_list = pc.and_(pc.equal(lists, place.number), pc.greater_equal(ids, place.image_id))
    in_label = pc.or_(pc.greater(lists, place.number), in_list)
    here = pc.and_(pc.equal(labels, place.label), in_label)
    return pc.or_(pc.greater(labels, place.label), here)


def _n_not_before(rows: pa.Table, place: Place) -> int:
    return pc.sum(_not_before(rows, place), min_count=0).as_py()


def _bounds(sizes: Sequence[int], n: int) -> list[int]:
    """Where to cut, 0 and the end included: each cut as near to an equal share as it can be."""
    n = min(n, len(sizes))
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    bounds = [0]
    for number in range(1, n):
        wanted = sums[-1] * number / n
        least, most = bounds[-1] + 1, len(sizes) - (n - number)
        bounds.append(min(range(least, most + 1), key=lambda at: abs(sums[at] - wanted)))
    return [*bounds, len(sizes)]
