"""Plan which worker writes which files of an index: pure functions of counts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig, RunnerConfig
from dcd.index.parts import grouped
from dcd.index.sort import Sizes
from dcd.store import keys

_LEAST_MEMORY_BYTES = 2**28  # of a worker, as of `index.max_memory_bytes`


@dataclass(frozen=True)
class Chunk:
    """Neighbouring rows of one label; first_id: the image_id of the first of them."""

    label: str
    first_id: str
    num_rows: int


@dataclass(frozen=True)
class PlannedPart:
    """A file of vectors: the label and image_id that it begins with, and how many rows it has."""

    label: str
    first_id: str
    n_rows: int


@dataclass(frozen=True)
class Share:
    """The files that one worker writes: those from number `first_part` on, of so many rows each.

    first: label and image_id of its first row. beyond: those of the first row of the next share,
    None in the last one. last_label: of its last row.
    """

    first_part: int
    part_rows: tuple[int, ...]
    first: tuple[str, str]
    beyond: tuple[str, str] | None
    last_label: str

    @property
    def n_rows(self) -> int:
        return sum(self.part_rows)

    @property
    def id(self) -> str:
        """Tells it from every other share of the same index, also of other numbers of workers."""
        return keys.digest(self.first_part, self.part_rows, self.first, self.beyond)

    def rows_of(self, rows: pa.Table) -> pa.Table:
        """Return the rows that belong to it. rows: weak_label, image_id and others."""
        labels, ids = rows["weak_label"], rows["image_id"]
        is_in = _not_before(labels, ids, self.first)
        if self.beyond is not None:
            is_in = pc.and_not(is_in, _not_before(labels, ids, self.beyond))
        return rows.filter(is_in)

    def labels_of(self, labels: pa.Table) -> pa.Table:
        """Return the rows of a table of labels whose `label` it may hold."""
        not_before = pc.greater_equal(labels["label"], self.first[0])
        not_after = pc.less_equal(labels["label"], self.last_label)
        return labels.filter(pc.and_(not_before, not_after))


def planned_parts(chunks: Iterator[Chunk], sizes: Sizes) -> list[PlannedPart]:
    """Tell the files that chunks in order give, by the rules of `dcd.index.parts.cut_parts`.

    chunks: of sizes.group_rows rows, but for the last of a label.
    """
    parts: list[PlannedPart] = []
    first, n_rows = None, 0
    for group in grouped(chunks, sizes.own_group_rows):
        n_new = sum(chunk.num_rows for chunk in group)
        if first is not None and n_rows + n_new > sizes.part_rows:
            parts.append(PlannedPart(first.label, first.first_id, n_rows))
            first, n_rows = None, 0
        first = first or group[0]
        n_rows += n_new
    if first is not None:
        parts.append(PlannedPart(first.label, first.first_id, n_rows))
    return parts


def shares_of(parts: Sequence[PlannedPart], last_label: str, n_shares: int) -> tuple[Share, ...]:
    """Cut the files, in order, into at most `n_shares` shares of nearly equally many rows.

    The largest share comes first: it is begun first. last_label: of the last row of all.
    """
    if not parts:
        return ()
    bounds = _bounds([part.n_rows for part in parts], min(n_shares, len(parts)))
    shares = []
    for start, end in pairwise(bounds):
        beyond = parts[end] if end < len(parts) else None
        shares.append(
            Share(
                start,
                tuple(part.n_rows for part in parts[start:end]),
                (parts[start].label, parts[start].first_id),
                None if beyond is None else (beyond.label, beyond.first_id),
                last_label if beyond is None else beyond.label,
            )
        )
    return tuple(sorted(shares, key=lambda share: (-share.n_rows, share.first_part)))


@dataclass(frozen=True)
class Workers:
    """How many workers build an index at once, and the memory of each."""

    n: int
    memory_bytes: int


def workers_of(runner: RunnerConfig, config: IndexConfig) -> Workers:
    """Tell how many workers of a runner build an index: one where it has threads only.

    `index.max_memory_bytes` holds for a machine. Workers on this one share it, and are as many as
    have 256 MiB each; a cluster with an address has as many machines as workers.
    """
    memory = config.max_memory_bytes
    if runner.kind == "thread":
        return Workers(1, memory)
    if runner.address is not None:
        return Workers(runner.max_workers, memory)
    n = max(1, min(runner.max_workers, memory // _LEAST_MEMORY_BYTES))
    return Workers(n, memory // n)


def _not_before(
    labels: pa.ChunkedArray, ids: pa.ChunkedArray, place: tuple[str, str]
) -> pa.ChunkedArray:
    label, image_id = place
    same = pc.and_(pc.equal(labels, label), pc.greater_equal(ids, image_id))
    return pc.or_(pc.greater(labels, label), same)


def _bounds(n_rows: Iterable[int], n_shares: int) -> list[int]:
    """Where to cut, 0 and the end included: each cut as near to an equal share as it can be."""
    sums = [0]
    for n in n_rows:
        sums.append(sums[-1] + n)
    bounds = [0]
    for number in range(1, n_shares):
        wanted = sums[-1] * number / n_shares
        least, most = bounds[-1] + 1, len(sums) - 1 - (n_shares - number)
        bounds.append(min(range(least, most + 1), key=lambda at: abs(sums[at] - wanted)))
    return [*bounds, len(sums) - 1]
