"""How the model of a selection is trained that the data choose: `dcd.cells.recipe` on a store."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.candidates import Candidates
from dcd.cells.cross_fitting import (
    JudgedEnds,
    Keep,
    fit_starts,
    judge_ends,
    right_out_of_fold,
)
from dcd.cells.recipe import choose_head, fit_in_full
from dcd.cells.train import (
    TrainedModel,
    TrainingData,
    by_source,
    features_of_split,
    in_fixed_order,
    is_failing,
    of_head,
    rows_of,
)
from dcd.config import EncoderConfig, Objective, Split, TrainingConfig
from dcd.evaluation.choice import mixture_name
from dcd.label_noise.pool_agreement import pool_agreement
from dcd.selection.reviewed import verified_picks
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.training.data import CurvePoint
from dcd.training.head import LinearHead, predict
from dcd.training.head_average import Compression
from dcd.training.saved_heads import kept_head

# Raised whenever the same images would give other heads.
_KEPT_FORMAT = 3


@dataclass(frozen=True)
class ObjectiveSelection:
    """A selection of the store by its id, and what a model of it is chosen for."""

    id: str
    objective: Objective


def train_by_recipe(
    store: Store,
    data: TrainingData,
    encoder: EncoderConfig,
    config: TrainingConfig,
    selection: ObjectiveSelection,
    shown: Sequence[Split] = (),
) -> TrainedModel:
    """Fit the heads of the recipe to features and take the one that the objective asks for.

    data.picks: those of the selection. shown: splits that are put on the curve and decide nothing.
    """
    of = _RecipeData(store, in_fixed_order(data), config, selection.id)
    with _one_at_a_time:
        ends = _ends_of(of)
    recipe = choose_head(ends, config, selection.objective, _kept_heads(of, ends.candidates))
    shown = [split for split in shown if split in data.tables]
    features = {split: features_of_split(data, split) for split in shown}
    truth = {split: np.array(data.tables[split]["label"].to_pylist()) for split in shown}
    judged = {model.name: model for model in recipe.judged}
    curve = []
    for alpha in recipe.line.alphas:
        model = judged[mixture_name(recipe.line.at(alpha))]
        head = recipe.head_at(model.shares)
        accuracy = {"val": float(model.val.mean()), "error_sample": float(model.failures.mean())}
        for split in shown:
            right = np.array(predict(head, features[split]).labels) == truth[split]
            accuracy[split] = float(right.mean())
        curve.append(CurvePoint(alpha, accuracy))
    return replace(
        of_head(recipe.head, data, encoder),
        alpha=recipe.point.alpha,
        curve=tuple(curve),
        line=recipe.line.names,
        chosen=recipe.choice.reason,
        out_of_fold=_out_of_fold(of, recipe.chosen.failures),
    )


@dataclass(frozen=True, eq=False)
class RecipeFits:
    """Ends of a recipe fitted in full, by name, and what they are fitted to.

    picks: schemas.PICKS in the order of the candidates.
    """

    candidates: Candidates
    picks: pa.Table
    compression: Compression
    starts: Mapping[str, LinearHead]
    heads: Mapping[str, LinearHead]


def fit_ends(
    store: Store,
    data: TrainingData,
    config: TrainingConfig,
    selection_id: str,
    ends: Sequence[str],
) -> RecipeFits:
    """Fit some ends as `train_by_recipe` does, without judging: far less work."""
    of = _RecipeData(store, in_fixed_order(data), config, selection_id)
    candidates = _candidates(of)
    keep = _kept_heads(of, candidates)
    compression, starts = fit_starts(candidates, ends, config, keep)
    heads = fit_in_full(candidates, compression, starts, config, keep)
    return RecipeFits(candidates, of.data.picks, compression, starts, heads)


@dataclass(frozen=True)
class _RecipeData:
    """What the ends of a recipe depend on; equal where that is, whichever model is asked for."""

    store: Store = field(compare=False)
    data: TrainingData = field(compare=False)
    config: TrainingConfig
    selection_id: str
    id: str = ""

    def __post_init__(self) -> None:
        splits = sorted([split, info.id] for split, info in self.data.splits.items())
        picks = keys.table_digest(self.data.picks)
        key = keys.digest(self.store.url, self.data.index.index_id, splits, picks)
        object.__setattr__(self, "id", key)


_one_at_a_time = threading.Lock()  # cells of one run want the same


@lru_cache(maxsize=1)
def _ends_of(of: _RecipeData) -> JudgedEnds:
    """Held for the next objective: models that differ in nothing else share nearly all work."""
    candidates = _candidates(of)
    return judge_ends(candidates, of.config, _kept_heads(of, candidates))


def failures_out_of_fold(
    store: Store, data: TrainingData, config: TrainingConfig, selection_id: str
) -> pa.Table:
    """Ask which failures are right by heads that did not see them: schemas.OUT_OF_FOLD.

    For models that no recipe chose. The heads are fitted to the features of train, of the
    selection's picks and of the other failures; for a network trained whole they stand in.
    """
    of = _RecipeData(store, in_fixed_order(data), config, selection_id)
    return _out_of_fold(of, right_out_of_fold(_candidates(of), config))


def _out_of_fold(of: _RecipeData, right: np.ndarray) -> pa.Table:
    _, failures = by_source(of.data.picks)
    return pa.table([failures["image_id"], pa.array(right)], schema=schemas.OUT_OF_FOLD)


def _kept_heads(of: _RecipeData, candidates: Candidates) -> Keep:
    """Keep heads that saw no failure in the store: a run for new failures finds them there."""
    data = of.data
    of_pool = slice(candidates.n_train, candidates.n_unfailing)
    from_pool, _ = by_source(data.picks)
    order = candidates.pool_order
    base = keys.digest(
        _KEPT_FORMAT,
        [data.index.index_id, data.index.encoder_id, data.splits["train"].id],
        keys.table_digest(from_pool.select(["image_id", "label"])),
        keys.table_digest(
            pa.table({"agreement": candidates.agreement, "weak": candidates.doubt.weak[of_pool]})
        ),
        of.config,
        # What saw no verified failure keeps the id that it had before there were any.
        *([] if order is None else [keys.table_digest(pa.table({"order": order}))]),
    )

    def keep(name: str, fit: Callable[[], LinearHead]) -> LinearHead:
        return kept_head(of.store, keys.digest("recipe", base, name), fit)

    return keep


def _candidates(of: _RecipeData) -> Candidates:
    """What the ends of the recipe are trained on, out of the picks of a selection."""
    store, data = of.store, of.data
    from_pool, from_errors = by_source(data.picks)
    failing = is_failing(from_pool, data)
    n_verified = pc.sum(failing).as_py() or 0
    pool_order = (
        pc.sort_indices(from_pool["image_id"]).to_numpy().astype(int) if n_verified else None
    )
    from_pool = from_pool.filter(pc.invert(failing))
    rows = rows_of(store, data, of.config)
    known = pool_agreement(store, data.index)
    at = pc.index_in(from_pool["image_id"], value_set=known["image_id"].combine_chunks())
    agreement = known["label_agreement"].take(at).combine_chunks().fill_null(0.0)
    agreement = agreement.to_numpy(zero_copy_only=False)
    return Candidates(
        features=rows.features,
        labels=rows.labels,
        classes=data.classes,
        n_train=data.tables["train"].num_rows,
        agreement=np.where(verified_picks(from_pool, data.reviewed), 1, agreement),
        added_weight=rows.added_weight,
        asked=_asked(store, of.selection_id, from_pool, from_errors, n_verified),
        unasked_weight=_unasked_weight(store, of.selection_id),
        doubt=rows.doubt,
        n_verified=n_verified,
        pool_order=pool_order,
    )


def _asked(
    store: Store, selection_id: str, from_pool: pa.Table, from_errors: pa.Table, n_verified: int
) -> np.ndarray:
    """(A, 2): places of a pool image among the picks and of a failure that it was picked for.

    n_verified: failures before those of the error sample; they ask for nothing.
    """
    neighbors = store.read_table(keys.selection_neighbors(selection_id))
    kept = neighbors.filter(neighbors["kept"])
    pool = pc.index_in(kept["image_id"], value_set=from_pool["image_id"].combine_chunks())
    ids = from_errors["image_id"].combine_chunks()
    failure = pc.add(pc.index_in(kept["error_image_id"], value_set=ids), n_verified)
    pairs = np.stack([at.fill_null(-1).to_numpy() for at in (pool, failure)], axis=1)
    return pairs[(pairs >= 0).all(axis=1)].astype(np.int64)


def _unasked_weight(store: Store, selection_id: str) -> float:
    """What a pick weighs that no failure asks for: as the general sample, where there is one."""
    picks = store.read_table(keys.selection_picks(selection_id), ["role", "weight"])
    general = picks["weight"].filter(pc.equal(picks["role"], "general"))
    return float(general[0].as_py()) if len(general) else 0.0
