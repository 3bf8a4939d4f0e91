"""Lay out what a person is to decide about: the picks of a run or a selection, or the failures."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import RunConfig
from dcd.errors import DataError, ObjectNotFound, ObjectUnreadable
from dcd.failures import registry
from dcd.index.info import IndexInfo, index_info
from dcd.index.read import pool_rows
from dcd.runs.finished import last_config, list_runs, read_parts, run_config
from dcd.runs.origins import index_of_run
from dcd.selection.picks import targeted_picks
from dcd.selection.review_plan import planned_failures
from dcd.sources.source import Source, fetch_shown, source_of, sources
from dcd.store import Store, keys

MAX_SELECTIONS = 50

DeskKind = Literal["runs", "selections", "failures"]

# Encoded images by id, of rows with image_id and shard; what is gone is left out.
Fetch = Callable[[pa.Table], Mapping[str, bytes]]


@dataclass(frozen=True)
class Failure:
    """An image of the error sample that picks were made for. predicted: None where not known."""

    image_id: str
    label: str
    predicted: str | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Candidate:
    """One image to decide about, under `label`. failure: its place in the desk, if it has one.

    distance: l2 to that failure. n_queries: of how many failures it is a neighbour.
    """

    image_id: str
    content_hash: bytes
    label: str
    shard: str
    failure: int | None = None
    distance: float | None = None
    rank: int | None = None
    agreement: float | None = None
    n_queries: int = 0


@dataclass(frozen=True, eq=False)
class Desk:
    """What one page shows. pool: the source of the candidates. classes: labels to choose from.

    failure_shards: where the pictures of the failures are, as far as known.
    """

    title: str
    pool: str
    classes: tuple[str, ...]
    failures: tuple[Failure, ...]
    candidates: tuple[Candidate, ...]
    failure_shards: Mapping[str, str]
    fetch_candidates: Fetch
    fetch_failures: Fetch

    @property
    def by_content(self) -> Mapping[str, Candidate]:
        return {c.content_hash.hex(): c for c in self.candidates}


def desk_of(store: Store, kind: DeskKind, name: str, config: RunConfig | None) -> Desk:
    """Lay out a run, a selection or the registered failures; `name` is the id of the first two.

    config: says where the images of a selection are; default: that of the last run. Raises
    StoreError where there is no such thing, DataError where its pictures cannot be found.
    """
    match kind:
        case "runs":
            return _desk_of_run(store, name)
        case "selections":
            return _desk_of_selection(store, name, config or last_config(store))
        case "failures":
            return _desk_of_failures(store)


def desk_named(store: Store, name: str, config: RunConfig | None = None) -> Desk:
    """Lay out what a name stands for: `failures`, the id of a run or of a selection.

    Raises DataError if the store holds nothing of that name.
    """
    if name == "failures":
        return desk_of(store, "failures", name, config)
    if re.fullmatch(r"[A-Za-z0-9._-]+", name):
        if store.exists(keys.run_report(name)):
            return desk_of(store, "runs", name, config)
        if store.exists(keys.selection_picks(name)):
            return desk_of(store, "selections", name, config)
    raise DataError(f"{store.url}: has no run and no selection {name!r:.100}; or give: failures")


def selections(store: Store) -> list[str]:
    """List the ids of finished selections, the newest first, at most MAX_SELECTIONS."""
    written = {
        key.split("/")[1]: at
        for key, at in store.published_at("selections").items()
        if key == keys.selection_picks(key.split("/")[1])
    }
    return sorted(written, key=lambda one: (written[one], one), reverse=True)[:MAX_SELECTIONS]


def _desk_of_run(store: Store, run_id: str) -> Desk:
    config = run_config(store, run_id)
    index = index_of_run(store, run_id)
    predictions = store.read_table(keys.run_table(run_id, "predictions"), ["label", "predicted"])
    classes = {*_distinct(predictions["label"]), *_distinct(predictions["predicted"])}
    rows = store.read_table(keys.run_table(run_id, "error_sample")).to_pylist()
    failures = [Failure(r["image_id"], r["label"], r["predicted"], r["mode"]) for r in rows]
    parts = read_parts(store, keys.run_parts(run_id)) or set()
    splits = sorted(part for part in parts if part.startswith("splits/"))
    tables = [store.read_table(keys.run_table(run_id, n)) for n in ("neighbors", "debug_train")]
    return _desk_of_picks(store, config, index, run_id, tables, classes, failures, splits)


def _desk_of_selection(store: Store, selection_id: str, config: RunConfig) -> Desk:
    picks_key = keys.selection_picks(selection_id)
    index_id = store.read_metadata(picks_key).get("index_id", "")
    index = _index_of_id(store, index_id)
    neighbors = store.read_table(keys.selection_neighbors(selection_id))
    of = planned_failures(store, selection_id)
    title = f"selection {selection_id}" if of is None else f"review plan {selection_id}"
    if of is None:  # picks have the labels of their failures, which images of a plan need not
        pairs = (neighbors[n].to_pylist() for n in ("error_image_id", "label"))
        of = dict(zip(*pairs, strict=True))
    failures = [Failure(image_id, label) for image_id, label in of.items()]
    tables = [neighbors, store.read_table(picks_key)]
    splits = store.keys_under("splits")
    classes = set(index.label_counts)
    return _desk_of_picks(store, config, index, title, tables, classes, failures, splits)


def _desk_of_picks(
    store: Store,
    config: RunConfig,
    index: IndexInfo,
    title: str,
    tables: Sequence[pa.Table],
    classes: set[str],
    failures: Sequence[Failure],
    splits: Iterable[str],
) -> Desk:
    """tables: neighbors and debug_train. splits: keys, among which is the error sample."""
    neighbors, picks = tables
    picks = targeted_picks(picks)
    n_queries = dict(zip(*(picks[n].to_pylist() for n in ("image_id", "n_queries")), strict=True))
    kept = neighbors.filter(neighbors["kept"])
    kept = kept.filter(pc.is_in(kept["image_id"], value_set=picks["image_id"]))
    nearest: dict[str, dict] = {}
    for row in kept.sort_by([("distance", "ascending"), ("image_id", "ascending")]).to_pylist():
        nearest.setdefault(row["image_id"], row)
    rows = pool_rows(store, index, pc.unique(picks["label"]))
    rows = rows.filter(pc.is_in(rows["image_id"], value_set=picks["image_id"]))
    places = {(r["image_id"], r["label"]): r for r in rows.to_pylist()}
    order = sorted(failures, key=lambda f: (f.label, f.mode or "", f.image_id))
    place_of = {failure.image_id: i for i, failure in enumerate(order)}
    candidates = [
        Candidate(
            row["image_id"],
            places[row["image_id"], row["label"]]["content_hash"],
            row["label"],
            places[row["image_id"], row["label"]]["shard"],
            place_of.get(row["error_image_id"]),
            row["distance"],
            row["rank"],
            row["label_agreement"],
            n_queries[row["image_id"]],
        )
        for row in nearest.values()
        if (row["image_id"], row["label"]) in places
    ]
    candidates.sort(key=lambda c: (len(order) if c.failure is None else c.failure, c.rank or 0))
    errors = failure_sources(store, config)
    return Desk(
        title=title,
        pool=index.pool,
        classes=tuple(sorted(classes)),
        failures=tuple(order),
        candidates=tuple(candidates),
        failure_shards=_shards_of(store, [f.image_id for f in order], splits),
        fetch_candidates=lambda rows: fetch_shown(store, [source_of(config.pool)], rows),
        fetch_failures=lambda rows: fetch_shown(store, errors, rows),
    )


def _desk_of_failures(store: Store) -> Desk:
    rows = registry.read_registry(store).failures
    labels = set(_distinct(rows["label"]))
    candidates = [
        Candidate(r["image_id"], r["content_hash"], r["label"], r["batch"])
        for r in rows.sort_by([("label", "ascending"), ("image_id", "ascending")]).to_pylist()
    ]
    runs = list_runs(store)
    if runs:
        key = keys.run_table(runs[0].run_id, "predictions")
        labels |= set(_distinct(store.read_table(key, ["label"])["label"]))
    return Desk(
        title="Registered failures",
        pool=registry.SOURCE_ID,
        classes=tuple(sorted(labels)),
        failures=(),
        candidates=tuple(candidates),
        failure_shards={},
        fetch_candidates=lambda rows: _registered_images(store, rows),
        fetch_failures=lambda rows: {},
    )


def _registered_images(store: Store, rows: pa.Table) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for batch in _distinct(rows["shard"]):
        try:
            table = store.read_table(keys.failure_batch(batch), ["image_id", "image"])
        except (ObjectNotFound, ObjectUnreadable):
            continue
        wanted = table.filter(pc.is_in(table["image_id"], value_set=rows["image_id"]))
        found |= zip(wanted["image_id"].to_pylist(), wanted["image"].to_pylist(), strict=True)
    return found


def failure_sources(store: Store, config: RunConfig) -> list[Source]:
    """Where failures are: the error samples of all seeds, and the registry."""
    by_images = {source.data.images: source for source in sources(config)}
    data = [config.dataset("error_sample", seed) for seed in config.seeds]
    given = {one.images: by_images[one.images] for one in data if one is not None}
    has_registry = store.exists(keys.shards(registry.SOURCE_ID))
    return [*given.values(), *([registry.registry_source(store.url)] if has_registry else [])]


def _shards_of(store: Store, ids: Sequence[str], splits: Iterable[str]) -> Mapping[str, str]:
    """The shard of every failure, by the first split that holds all of them; else what is known."""
    wanted, best = pa.array(ids, pa.string()), {}
    for key in splits:
        try:
            table = store.read_table(key, ["image_id", "shard"])
        except (ObjectNotFound, ObjectUnreadable):
            continue
        rows = table.filter(pc.is_in(table["image_id"], value_set=wanted))
        if rows.num_rows > len(best):
            best = dict(zip(*(rows[n].to_pylist() for n in ("image_id", "shard")), strict=True))
        if len(best) == len(ids):
            break
    return best


def _index_of_id(store: Store, index_id: str) -> IndexInfo:
    for key in store.keys_under(keys.INDEXES):
        folder, _, name = key.rpartition("/")
        if name == "index.json" and folder.endswith(f"/{index_id}"):
            _, pool, encoder_id, _ = folder.split("/")
            return index_info(store, pool, encoder_id, index_id)
    raise DataError(
        f"{store.url}: the index {index_id} of this selection is gone; run dcd select again"
    )


def _distinct(column: pa.ChunkedArray) -> list[str]:
    return [value for value in pc.unique(column).to_pylist() if value is not None]
