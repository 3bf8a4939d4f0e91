"""The selection stage: from failures and an index to the images to add, over one store."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SelectionConfig, Split
from dcd.errors import ConfigError
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, vectors_of
from dcd.index.search import in_label_neighbors
from dcd.selection.choose_k import accuracy_with
from dcd.selection.lpips import Lpips
from dcd.selection.neighbor_cache import cached_neighbors
from dcd.selection.objections import Objector
from dcd.selection.picks import Weighted, debug_train, limit_targeted_share, targeted_picks
from dcd.selection.refine import refine
from dcd.selection.rerank import open_lpips, rerank
from dcd.selection.trusted_search import fill_rate, general_sample, trusted_neighbors
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo, blocked_content, split_table
from dcd.store import Store, keys

# Raised whenever the stage's output would change for the same inputs.
_SELECTION_FORMAT = 4


@dataclass(frozen=True)
class SelectionInfo:
    """A selection: `id` names its neighbors and debug_train in the store.

    Of n_picks images n_general are the general sample. fill_rate: share, in 0…1, of the k images
    asked for each failure that were found. error_sample_weight: of its images in the loss.
    """

    id: str
    n_failures: int
    n_picks: int
    reused: bool
    n_general: int = 0
    fill_rate: float = 1.0
    error_sample_weight: float = 0.0


@dataclass(frozen=True)
class _Chosen:
    """neighbors: schemas.NEIGHBORS, or RERANKED_NEIGHBORS with LPIPS."""

    neighbors: pa.Table
    weighted: Weighted


def select(
    store: Store,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
) -> SelectionInfo:
    """Choose the images to add and publish neighbors and debug_train, unless they are there.

    pool: where the images of the index are; read again for LPIPS only. Raises ConfigError for
    settings that do not fit together or the number of failures, EncoderError for LPIPS weights that
    are missing or do not fit.
    """
    if config.lpips_fault:
        raise ConfigError([f"selection.{config.lpips_fault}"])
    n_failures = splits["error_sample"].n_images
    lpips = None if config.lpips is None else open_lpips(config.lpips, n_failures)
    selection_id = keys.digest(
        "selection",
        _SELECTION_FORMAT,
        index.index_id,
        sorted([split, info.id] for split, info in splits.items()),
        config.model_dump(mode="json", exclude={"lpips"}),
        *([] if lpips is None else [lpips.digest, config.searched]),
    )
    prefix = keys.selection(selection_id)
    reused = store.exists(f"{prefix}/debug_train.parquet")
    if not reused:
        at_k, chosen = _choose_k(_Search(store, pool, index, splits, lpips), config)
        described = {
            "config": at_k.model_dump_json(),
            "index_id": index.index_id,
            "error_sample_weight": repr(chosen.weighted.error_sample_weight),
        }
        store.write_table(f"{prefix}/neighbors.parquet", chosen.neighbors, metadata=described)
        store.write_table(
            f"{prefix}/debug_train.parquet", chosen.weighted.picks, metadata=described
        )
    picks = store.read_table(f"{prefix}/debug_train.parquet", ["image_id", "role"])
    neighbors = store.read_table(f"{prefix}/neighbors.parquet", ["kept"])
    described = store.read_metadata(f"{prefix}/debug_train.parquet")
    k = SelectionConfig.model_validate_json(described["config"]).k
    return SelectionInfo(
        selection_id,
        n_failures,
        picks.num_rows,
        reused,
        picks.num_rows - targeted_picks(picks).num_rows,
        fill_rate(neighbors, n_failures, k),
        float(described["error_sample_weight"]),
    )


@dataclass(frozen=True)
class _Search:
    """What is searched, for which failures; `lpips` orders candidates where a selection asks."""

    store: Store
    pool: Source
    index: IndexInfo
    splits: Mapping[Split, SplitInfo]
    lpips: Lpips | None


def _choose_k(search: _Search, config: SelectionConfig) -> tuple[SelectionConfig, _Chosen]:
    """The config with its k, and what `_choose` gives for it; a tie goes to the smaller k."""
    if not config.k_candidates:
        return config, _choose(search, config)
    store, index, splits = search.store, search.index, search.splits
    if "debug_val" not in splits:
        raise ConfigError(["selection.k_candidates: k is chosen on debug_val; give that data set"])
    train, failures, judging = (
        split_table(store, splits[split]) for split in ("train", "error_sample", "debug_val")
    )
    found = []
    for k in sorted(set(config.k_candidates)):
        at_k = config.model_copy(update={"k": k, "k_candidates": ()})
        chosen = _choose(search, at_k)
        picks = chosen.weighted.picks
        rows = vectors_of(store, index, picks["image_id"], pc.unique(picks["label"]))
        weight = chosen.weighted.error_sample_weight
        accuracy = accuracy_with(train, failures, weight, picks, rows, judging)
        found.append((accuracy, -k, at_k, chosen))
    _, _, at_k, chosen = max(found, key=lambda one: one[:2])
    return at_k, chosen


def _choose(search: _Search, config: SelectionConfig) -> _Chosen:
    store, index, splits = search.store, search.index, search.splits
    tables: dict[Split, pa.Table] = {s: split_table(store, info) for s, info in splits.items()}
    failures, train = tables["error_sample"], tables["train"]
    blocked = blocked_content(store, splits)
    objector = Objector(store, index, splits, tables, config)
    neighbors = _neighbors(store, index, failures, blocked, objector, config)
    rows = pool_rows(store, index, pc.unique(neighbors["label"]))
    if search.lpips is not None:
        failing = splits["error_sample"].sources
        neighbors = rerank(
            store, search.lpips, neighbors, failures, rows, failing, search.pool, config.width
        )
    if config.refines:
        kept = neighbors.filter(neighbors["kept"])
        vectors = vectors_of(store, index, kept["image_id"], pc.unique(kept["label"]))
        calibration = tables.get("debug_val", failures)
        neighbors = refine(neighbors, vectors, failures, calibration, train, config)
    general = None
    if config.general_images:
        general = general_sample(
            objector.general_candidates(),
            blocked,
            sorted(set(train["label"].to_pylist())),
            config.general_images,
            objector.to_general,
        )
    picks = debug_train(
        neighbors,
        rows,
        store.read_table(keys.shards(index.pool)),
        config.pick_weight,
        general,
        config.general_weight,
    )
    targeted = targeted_picks(picks)
    taken = vectors_of(store, index, targeted["image_id"], pc.unique(targeted["label"]))
    objector.check(taken, general)
    weighted = limit_targeted_share(
        picks,
        train.num_rows,
        failures.num_rows,
        config.error_sample_weight,
        config.max_targeted_share,
    )
    return _Chosen(neighbors, weighted)


def _neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    objector: Objector,
    config: SelectionConfig,
) -> pa.Table:
    """schemas.NEIGHBORS; of failures that were asked for before, as they were found then."""
    k, labels = config.searched, pc.unique(failures["label"]).sort()

    def search(asked: pa.Table) -> pa.Table:
        if objector.asks_nothing:
            return in_label_neighbors(store, index, asked, blocked, k)
        return trusted_neighbors(
            store, index, asked, blocked, k, objector.to_targeted, config.max_depth, labels
        )

    if objector.asks_failures:
        return search(failures)
    depends_on: list[object] = [k]
    if not objector.asks_nothing:
        depends_on += [config.max_depth, labels.to_pylist(), *objector.depends_on]
    return cached_neighbors(store, index, failures, blocked, depends_on, search)
