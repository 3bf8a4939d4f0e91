"""Run the selection stage: from failures and an index to the images to add, over one store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SelectionConfig, Split
from dcd.errors import ConfigError
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, shared_sample, vectors_of
from dcd.index.search import in_label_neighbors
from dcd.label_noise.pseudo_labels import read_pseudo_labels
from dcd.selection.choose_k import accuracy_with
from dcd.selection.neighbor_cache import cached_neighbors
from dcd.selection.picks import WeightedPicks, debug_train, limit_targeted_share, targeted_picks
from dcd.selection.refine import refine
from dcd.selection.reviewed import (
    FAILING,
    Reviewed,
    add_reviewed,
    like_failures,
    places_in_index,
    verified_picks,
    verified_rows,
)
from dcd.selection.rules import PickRules
from dcd.selection.trusted_search import fill_rate, general_sample, trusted_neighbors
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import in_order_of, one_row_a_content, with_column, without

if TYPE_CHECKING:
    from dcd.selection.lpips import Lpips

# Raised whenever the stage's output would change for the same inputs.
_SELECTION_FORMAT = 4
_USED_AS_FAILURE = "a failure, as reviewed"


@dataclass(frozen=True)
class SelectionInfo:
    """A selection: `id` names its neighbors and debug_train in the store.

    Of n_picks images n_general are the general sample. fill_rate: share, in 0…1, of the k images
    asked for each failure that were found. error_sample_weight: of its images in the loss.
    reviewed_id: of the reviews that count (`dcd.selection.reviewed`), n_reviewed: picks by them,
    n_failing of which are used as failures.
    """

    id: str
    n_failures: int
    n_picks: int
    reused: bool
    n_general: int = 0
    fill_rate: float = 1.0
    error_sample_weight: float = 0.0
    reviewed_id: str | None = None
    n_reviewed: int = 0
    n_failing: int = 0


@dataclass(frozen=True)
class Choice:
    """neighbors: schemas.NEIGHBORS, or RERANKED_NEIGHBORS with LPIPS."""

    neighbors: pa.Table
    weighted: WeightedPicks


def select(
    store: Store,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    reviewed: Reviewed | None = None,
) -> SelectionInfo:
    """Choose the images to add and publish neighbors and debug_train, unless they are there.

    pool: where the images of the index are; read again for LPIPS only. reviewed: what people said
    of images of the index; without it the selection is what it was before there were reviews.
    Raises ConfigError for settings that do not fit together or the number of failures, EncoderError
    for LPIPS weights that are missing or do not fit.
    """
    if config.lpips_fault:
        raise ConfigError([f"selection.{config.lpips_fault}"])
    n_failures = splits["error_sample"].n_images
    lpips = open_lpips_of(config, n_failures)
    selection_id = keys.digest("selection", *deciding(index, splits, config, lpips, reviewed))
    picks_key = keys.selection_picks(selection_id)
    neighbors_key = keys.selection_neighbors(selection_id)
    reused = store.exists(picks_key)
    if not reused:
        case = read_case(store, pool, index, splits, config, lpips, reviewed)
        at_k, chosen = _choose_k(case, config)
        described = {
            "config": at_k.model_dump_json(),
            "index_id": index.index_id,
            "error_sample_weight": repr(chosen.weighted.error_sample_weight),
        }
        store.write_table(neighbors_key, chosen.neighbors, metadata=described)
        store.write_table(picks_key, chosen.weighted.picks, metadata=described)
    picks = store.read_table(picks_key, ["image_id", "role"])
    neighbors = store.read_table(neighbors_key, ["kept"])
    described = store.read_metadata(picks_key)
    k = SelectionConfig.model_validate_json(described["config"]).k
    roles = picks["role"].to_pylist()
    n_failing = roles.count(FAILING)
    n_reviewed = roles.count("reviewed") + n_failing
    return SelectionInfo(
        selection_id,
        n_failures,
        picks.num_rows,
        reused,
        picks.num_rows - targeted_picks(picks).num_rows - n_reviewed,
        fill_rate(neighbors, n_failures, k),
        float(described["error_sample_weight"]),
        None if reviewed is None else reviewed.id,
        n_reviewed,
        n_failing,
    )


def deciding(
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    lpips: "Lpips | None",
    reviewed: Reviewed | None,
) -> list[object]:
    """List what decides a selection, for its id."""
    return [
        _SELECTION_FORMAT,
        index.index_id,
        sorted([split, info.id] for split, info in splits.items()),
        config.model_dump(mode="json", exclude={"lpips", "objective"}),
        *([] if lpips is None else [lpips.digest, config.searched]),
        *([] if reviewed is None else [reviewed.id]),
    ]


@dataclass(frozen=True)
class Case:
    """What is searched for which failures: the same for every k that is tried.

    tables: schemas.labelled_features of every split. blocked: content_hash, reason. `lpips` orders
    candidates where a selection asks for it. failing: of `rules.true`, the images that are used as
    failures.
    """

    store: Store
    pool: Source
    index: IndexInfo
    splits: Mapping[Split, SplitInfo]
    tables: Mapping[Split, pa.Table]
    blocked: pa.Table
    rules: PickRules
    lpips: "Lpips | None"
    failing: pa.Table | None = None

    def vectors(self, picks: pa.Table) -> pa.Table:
        """Read the rows of the index that hold these images, under the labels among them."""
        labels = places_in_index(picks["label"], self.rules.reviewed)
        return vectors_of(self.store, self.index, picks["image_id"], labels)


def read_case(
    store: Store,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    lpips: "Lpips | None",
    reviewed: Reviewed | None,
) -> Case:
    tables: dict[Split, pa.Table] = {s: split_table(store, info) for s, info in splits.items()}
    rules = PickRules(store, index, splits, tables, config, reviewed)
    case = Case(store, pool, index, splits, tables, rules.blocked, rules, lpips)
    return _with_failing(case, config)


def _with_failing(case: Case, config: SelectionConfig) -> Case:
    """Use images with true labels that are like a failure as failures; nothing picks them then.

    None are where failures have no weight in the loss.
    """
    true, failures = case.rules.true, case.tables["error_sample"]
    if true is None or true.num_rows == 0:
        return case
    if not config.error_sample_weight or failures.num_rows == 0:
        return case
    rows = one_row_a_content(true.sort_by("image_id"))
    vectors = in_order_of(rows, one_row_a_content(case.vectors(rows)))
    vectors = with_column(vectors, "label", rows["true_label"])
    sample = shared_sample(case.store, case.index)
    failing = rows.filter(pa.array(like_failures(vectors, failures, sample)))
    reasons = pa.repeat(_USED_AS_FAILURE, failing.num_rows)
    taken = failing.select(["content_hash"]).append_column("reason", reasons)
    blocked = pa.concat_tables([case.blocked, taken.cast(case.blocked.schema)])
    return replace(case, failing=failing, blocked=blocked)


def _choose_k(case: Case, config: SelectionConfig) -> tuple[SelectionConfig, Choice]:
    """Give the config with its k, and what `_choose` gives for it; a tie goes to the smaller k."""
    if not config.k_candidates:
        return config, _choose(case, config)
    if "debug_val" not in case.tables:
        raise ConfigError(["selection.k_candidates: k is chosen on debug_val; give that data set"])
    train, failures, judging = (case.tables[s] for s in ("train", "error_sample", "debug_val"))
    found = []
    for k in sorted(set(config.k_candidates)):
        at_k = config.model_copy(update={"k": k, "k_candidates": ()})
        chosen = _choose(case, at_k)
        picks, weight = chosen.weighted.picks, chosen.weighted.error_sample_weight
        accuracy = accuracy_with(train, failures, weight, picks, case.vectors(picks), judging)
        found.append((accuracy, -k, at_k, chosen))
    _, _, at_k, chosen = max(found, key=lambda one: one[:2])
    return at_k, chosen


def _choose(case: Case, config: SelectionConfig) -> Choice:
    """Search, reorder, refine and complete by a general sample; check for leaks; weigh."""
    neighbors = _search(case, config)
    rows = pool_rows(case.store, case.index, pc.unique(neighbors["label"]))
    return complete(case, ordered(case, neighbors, rows, config), rows, config)


def ordered(case: Case, neighbors: pa.Table, rows: pa.Table, config: SelectionConfig) -> pa.Table:
    """Put what was found in the order that the selection asks for, and apply its switches.

    rows: as `pool_rows` gives them, of the labels among the neighbours.
    """
    return _refine(case, _reorder(case, neighbors, rows, config), config)


def complete(case: Case, neighbors: pa.Table, rows: pa.Table, config: SelectionConfig) -> Choice:
    """Add the general sample to the kept neighbours; check for leaks; weigh. Raises LeakError."""
    general = _draw_general(case, config)
    shards = case.store.read_table(keys.shards(case.index.pool))
    picks = debug_train(neighbors, rows, shards, config.pick_weight, general, config.general_weight)
    case.rules.check(case.vectors(targeted_picks(picks)), general)
    weighted = _with_reviewed(case, _weigh(case, picks, config), shards)
    return Choice(neighbors, _with_posteriors(case, weighted))


def _search(case: Case, config: SelectionConfig) -> pa.Table:
    """Find schemas.NEIGHBORS; of failures that were asked for before, as they were found then."""
    store, index, blocked, k = case.store, case.index, case.blocked, config.searched
    failures = case.tables["error_sample"]
    depends_on: list[object] = [k]
    if case.rules.is_empty:
        search = partial(in_label_neighbors, store, index, blocked=blocked, k=k)
    else:
        labels = pc.unique(failures["label"]).sort()
        depends_on += [config.max_depth, labels.to_pylist(), *case.rules.targeted_depends_on]
        search = partial(
            trusted_neighbors,
            store,
            index,
            blocked=blocked,
            k=k,
            rule=case.rules.for_targeted,
            max_depth=config.max_depth,
            failing_labels=labels,
        )
    if case.rules.depends_on_failures:
        return search(failures)
    return cached_neighbors(store, index, failures, blocked, depends_on, search)


def open_lpips_of(config: SelectionConfig, n_failures: int) -> "Lpips | None":
    if config.lpips is None:
        return None
    from dcd.selection.rerank import open_lpips

    return open_lpips(config.lpips, n_failures)


def _reorder(case: Case, neighbors: pa.Table, rows: pa.Table, config: SelectionConfig) -> pa.Table:
    """Take the nearest by LPIPS, if the selection asks for it."""
    if case.lpips is None:
        return neighbors
    from dcd.selection.rerank import rerank

    failures, sources = case.tables["error_sample"], case.splits["error_sample"].sources
    return rerank(
        case.store, case.lpips, neighbors, failures, rows, sources, case.pool, config.width
    )


def _refine(case: Case, neighbors: pa.Table, config: SelectionConfig) -> pa.Table:
    """Apply the switches beyond trust, if one is on."""
    if not config.refines:
        return neighbors
    failures, train = case.tables["error_sample"], case.tables["train"]
    vectors = case.vectors(neighbors.filter(neighbors["kept"]))
    calibration = case.tables.get("debug_val", failures)
    return refine(neighbors, vectors, failures, calibration, train, config)


def _draw_general(case: Case, config: SelectionConfig) -> pa.Table | None:
    """Draw as without reviews, and leave out afterwards what is used as a failure."""
    if not config.general_images:
        return None
    classes = sorted(set(case.tables["train"]["label"].to_pylist()))
    candidates, rule = case.rules.general_candidates(), case.rules.for_general
    drawn = general_sample(candidates, case.rules.blocked, classes, config.general_images, rule)
    return drawn if case.failing is None else without(drawn, case.failing)


def _with_reviewed(case: Case, weighted: WeightedPicks, shards: pa.Table) -> WeightedPicks:
    """Add what people gave true labels; what is used as a failure weighs as one."""
    true = case.rules.true
    if true is None:
        return weighted
    rest = true if case.failing is None else without(true, case.failing)
    picks = add_reviewed(weighted.picks, rest, shards)
    if case.failing is not None:
        weight = max(1.0, weighted.error_sample_weight)
        failing = verified_rows(case.failing, shards, FAILING, weight)
        picks = pa.concat_tables([picks, failing])
    return WeightedPicks(picks, weighted.error_sample_weight)


def _with_posteriors(case: Case, weighted: WeightedPicks) -> WeightedPicks:
    """Say which picks came without a label, and how probable that is under which they are used.

    schemas.PSEUDO_LABELLED_DEBUG_TRAIN, where the index has such images. A label that somebody
    verified is none that was guessed.
    """
    if case.index.pseudo is None:
        return weighted
    picks = weighted.picks.replace_schema_metadata(None)
    found = read_pseudo_labels(case.store, case.index)
    at = pc.index_in(picks["image_id"], value_set=found["image_id"].combine_chunks())
    posterior = found["posterior"].combine_chunks().take(at.combine_chunks())
    verified = pa.array(verified_picks(picks, case.rules.reviewed))
    guessed = pc.if_else(verified, pa.scalar(None, pa.float32()), posterior)
    picks = picks.append_column("posterior", guessed)
    picks = schemas.conform(picks, schemas.PSEUDO_LABELLED_DEBUG_TRAIN, "picks")
    return WeightedPicks(picks, weighted.error_sample_weight)


def _weigh(case: Case, picks: pa.Table, config: SelectionConfig) -> WeightedPicks:
    """Weigh what is aimed at the failures; verified ones share the weight of the error sample.

    More of it would move every model of the recipe toward the failures, at the cost of test.
    """
    n_errors = case.tables["error_sample"].num_rows
    n_failing = 0 if case.failing is None else case.failing.num_rows
    share = n_errors / (n_errors + n_failing) if n_failing else 1.0
    return limit_targeted_share(
        picks,
        case.tables["train"].num_rows,
        n_errors + n_failing,
        share * config.error_sample_weight,
        config.max_targeted_share,
    )
