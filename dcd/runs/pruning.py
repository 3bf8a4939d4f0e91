"""Tell what a store holds, and delete what of it nothing needs any more.

Only cells, selections, indexes, splits, maps and what merely saves work (`dcd.store.parts.CACHES`)
are ever let go: they are made again from embeddings and labels where they are asked for again.
Embeddings, runs, comparisons, champions and failures stay.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from dcd.errors import DataError
from dcd.progress import live
from dcd.runs.finished import finished, read_parts
from dcd.store import Store, StoredObject, keys
from dcd.store.parts import FOLDERS, part_of, says_done
from dcd.store.requests import REQUESTS_AT_ONCE


@dataclass(frozen=True)
class Part:
    """A cell, selection, index, split, map or cached object; `key` is what `part_of` gives."""

    key: str
    objects: tuple[StoredObject, ...]

    @property
    def kind(self) -> str:
        return self.key.partition("/")[0]

    @property
    def n_bytes(self) -> int:
        return sum(found.n_bytes for found in self.objects)

    @property
    def written(self) -> datetime:
        """When the last of its objects was written."""
        return max(found.written for found in self.objects)


@dataclass(frozen=True)
class Pruning:
    """Which parts go and which stay.

    n_silent: of the runs and comparisons that count, those of an older version, which do not say
    what they are a view of. What only they need goes too.
    """

    unneeded: tuple[Part, ...]
    kept: tuple[Part, ...]
    n_silent: int = 0


@dataclass(frozen=True)
class Usage:
    """What the folder of that name takes."""

    folder: str
    n_objects: int
    n_bytes: int


def usage(objects: Iterable[StoredObject]) -> list[Usage]:
    """Sum up objects by the store's folders, the largest first."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for found in objects:
        sizes[found.key.partition("/")[0]].append(found.n_bytes)
    rows = [Usage(folder, len(found), sum(found)) for folder, found in sizes.items()]
    return sorted(rows, key=lambda row: (-row.n_bytes, row.folder))


def plan_pruning(store: Store, n_kept_runs: int, before: datetime) -> Pruning:
    """Plan what goes if the newest runs and comparisons of each name stay as cheap to repeat.

    Nothing goes that was written at `before` or later: a run that is under way needs it. Of every
    pool and encoder the newest index stays, whether a run used it or not. Caches go by age alone.
    Raises DataError if no run and no comparison is finished, ObjectUnreadable if a list of parts,
    or an index that is needed, is damaged.
    """
    with live.stage("list objects"):
        found = parts(o for folder in FOLDERS for o in store.objects_under(folder))
    used, n_silent = _used(store, n_kept_runs)
    wanted = used | newest_indexes(found)
    pruning = plan(found, wanted | _segments(store, found, wanted), before)
    return replace(pruning, n_silent=n_silent)


def parts(objects: Iterable[StoredObject]) -> list[Part]:
    """Return the objects that belong to parts, by part; sorted."""
    grouped: dict[str, list[StoredObject]] = defaultdict(list)
    for found in objects:
        part = part_of(found.key)
        if part is not None:
            grouped[part].append(found)
    return [Part(key, tuple(grouped[key])) for key in sorted(grouped)]


def plan(found: Sequence[Part], needed: Collection[str], before: datetime) -> Pruning:
    """Let those parts go that are not needed and were last written before a time."""
    goes = {part.key for part in found if part.key not in needed and part.written < before}
    return Pruning(
        tuple(part for part in found if part.key in goes),
        tuple(part for part in found if part.key not in goes),
    )


def newest_indexes(found: Iterable[Part]) -> set[str]:
    """Find the finished index that was written last, for every pool and encoder."""
    whole: dict[str, list[Part]] = defaultdict(list)
    for part in found:
        if part.kind == keys.INDEXES and _is_whole(part):
            whole[part.key.rpartition("/")[0]].append(part)
    return {max(of_pool, key=lambda p: (p.written, p.key)).key for of_pool in whole.values()}


def newest(written: Mapping[str, datetime], n: int) -> list[str]:
    """Return the n newest of each name, of ids that are a name, a dash and a digest."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for found in sorted(written, key=lambda i: (written[i], i), reverse=True):
        by_name[found.rpartition("-")[0]].append(found)
    return sorted(found for ids in by_name.values() for found in ids[:n])


def prune(store: Store, unneeded: Sequence[Part]) -> None:
    """Delete parts. The object that says a part is whole goes first: none is ever taken for whole
    that is not, and a crash leaves pieces that the next pruning takes."""
    with (
        live.stage("delete", len(unneeded), "parts") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests,
    ):
        for part in stage.each(unneeded):
            last = says_done(part.key)
            store.delete(last)
            rest = [found.key for found in part.objects if found.key != last]
            list(requests.map(store.delete, rest))


def _used(store: Store, n_kept_runs: int) -> tuple[set[str], int]:
    """What the newest runs and comparisons are views of, and how many of them do not say."""
    runs = newest(finished(store, keys.RUNS, keys.RUN_LAST), n_kept_runs)
    comparisons = newest(finished(store, keys.COMPARISONS, keys.COMPARISON_LAST), n_kept_runs)
    found = [keys.run_parts(one) for one in runs]
    found += [keys.comparison_parts(one) for one in comparisons]
    if not found:
        raise DataError(
            f"{store.url}: no finished run and no comparison there, so nothing tells what is "
            "needed; is this the store?"
        )
    said = [read_parts(store, key) for key in found]
    return set().union(*(parts for parts in said if parts is not None)), said.count(None)


def _segments(store: Store, found: Iterable[Part], wanted: Collection[str]) -> set[str]:
    """The indexes whose files the wanted ones use."""
    segments: set[str] = set()
    for part in found:
        if part.kind == keys.INDEXES and part.key in wanted and _is_whole(part):
            key = says_done(part.key)
            try:
                names = store.read_json(key)["segments"]
            except (KeyError, TypeError) as err:
                raise store.damaged(key, f"names no segments ({err!r})") from err
            _, pool, encoder_id, _ = part.key.split("/")
            segments |= {keys.index(pool, encoder_id, name) for name in names}
    return segments


def _is_whole(part: Part) -> bool:
    return any(found.key == says_done(part.key) for found in part.objects)
