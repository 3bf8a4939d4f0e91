"""How a cell's model is trained: a head on cached features (whole networks: `networks`)."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.candidates import Candidates
from dcd.cells.cross_fitting import JudgedEnds, judge_ends
from dcd.cells.recipe import choose_head
from dcd.config import UNJUDGED_SPLITS, EncoderConfig, Objective, Split, TrainingConfig
from dcd.evaluation.choice import mixture_name
from dcd.index.info import IndexInfo
from dcd.index.read import vectors_of
from dcd.label_noise.doubt import doubt_of_picks
from dcd.label_noise.pool_agreement import pool_agreement
from dcd.selection.reviewed import places_in_index, verified_picks
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables.rows import in_order_of
from dcd.tables.vectors import embedding_matrix, stacked_vectors
from dcd.training.data import CurvePoint, TrainingSet
from dcd.training.head import LinearHead, fit_standardizer, loss_weights
from dcd.training.kept_heads import kept_head
from dcd.training.losses import LabelDoubt, joined
from dcd.training.predictions import Predictions, predict
from dcd.training.robust_head import fit_head

# Raised whenever the same images would give another head.
_HEAD_FORMAT = 1


@dataclass(frozen=True)
class TrainingData:
    """What a cell trains and evaluates on, and where its images and vectors are.

    tables: schemas.labelled_features of every split. picks: schemas.PICKS. classes: those of train.
    targeted: ids of the picks that a selection made for failures, or that people verified, not as a
    general sample. reviewed: schemas.REVIEWED, where reviews count in the picks.
    """

    tables: Mapping[Split, pa.Table]
    splits: Mapping[Split, SplitInfo]
    picks: pa.Table
    pool: Source
    index: IndexInfo
    classes: tuple[str, ...]
    targeted: pa.Array
    reviewed: pa.Table | None = None


@dataclass(frozen=True)
class TrainedModel:
    """Predictions for every split but train. save: writes the model as a folder.

    curve: accuracies along the line between two models that the model was chosen from, alpha being
    the place of the chosen one; empty where nothing was chosen. line: the names of its ends.
    chosen: which model that is and why, in a sentence; empty where nothing was chosen.
    """

    predicted: Mapping[Split, Predictions]
    save: Callable[[Path], None]
    alpha: float = 1.0
    curve: tuple[CurvePoint, ...] = ()
    line: tuple[str, str] = ("original", "fine-tuned")
    chosen: str = ""


@dataclass(frozen=True)
class ObjectiveSelection:
    """A selection of the store by its id, and what a model of it is chosen for."""

    id: str
    objective: Objective


def failing_head(train: pa.Table, config: TrainingConfig) -> LinearHead:
    """The model that fails, as a classifier on the encoder's features: fitted to train alone."""
    features, labels = embedding_matrix(train), train["label"].to_pylist()
    weight = loss_weights(labels, len(labels), np.zeros(0), config)
    classes = tuple(sorted(set(labels)))
    data = TrainingSet.of_true_labels(features, labels, classes, weight)
    return fit_head(data, fit_standardizer(features), config)


def train_on_features(
    store: Store, data: TrainingData, encoder: EncoderConfig, config: TrainingConfig
) -> TrainedModel:
    """Fit a head to the features of train and picks; the encoder stays as it is.

    A head without failures among its picks is kept for the next ones.
    """
    _, from_errors = by_source(data.picks)
    if from_errors.num_rows:
        head = fit_to_features(store, data, config)
    else:
        fit = partial(fit_to_features, store, data, config)
        head = kept_head(store, _head_id(data, config), fit)
    return _of_head(head, data, encoder)


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
    with _one_at_a_time:
        ends = _ends_of(_RecipeData(store, data, config, selection.id))
    recipe = choose_head(ends, config, selection.objective)
    shown = [split for split in shown if split in data.tables]
    features = {split: embedding_matrix(data.tables[split]) for split in shown}
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
        _of_head(recipe.head, data, encoder),
        alpha=recipe.point.alpha,
        curve=tuple(curve),
        line=recipe.line.names,
        chosen=recipe.choice.reason,
    )


def _of_head(head: LinearHead, data: TrainingData, encoder: EncoderConfig) -> TrainedModel:
    def save(directory: Path) -> None:
        from dcd.encoders.network import load_network, preprocess_of
        from dcd.training.saved_models import save_model, with_head

        network = with_head(load_network(encoder), head)
        save_model(directory, network, data.classes, preprocess_of(encoder), encoder.model)

    found: dict[Split, Predictions] = {
        split: predict(head, embedding_matrix(table))
        for split, table in data.tables.items()
        if split not in UNJUDGED_SPLITS
    }
    return TrainedModel(found, save)


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
    return judge_ends(_candidates(of), of.config)


def _candidates(of: _RecipeData) -> Candidates:
    """What the ends of the recipe are trained on, out of the picks of a selection."""
    store, data = of.store, of.data
    train = data.tables["train"]
    from_pool, from_errors = by_source(data.picks)
    picked = _picked_features(store, data)
    rows = [train, *(in_order_of(picks, table) for picks, table in picked)]
    labels = train["label"].to_pylist()
    weight = []
    for picks, _ in picked:
        labels += picks["label"].to_pylist()
        weight.append(picks["weight"].to_numpy())
    known = pool_agreement(store, data.index)
    at = pc.index_in(from_pool["image_id"], value_set=known["image_id"].combine_chunks())
    agreement = known["label_agreement"].take(at).combine_chunks().fill_null(0.0)
    agreement = agreement.to_numpy(zero_copy_only=False)
    return Candidates(
        features=stacked_vectors(rows),
        labels=labels,
        classes=data.classes,
        n_train=train.num_rows,
        agreement=np.where(verified_picks(from_pool, data.reviewed), 1, agreement),
        added_weight=np.concatenate([np.zeros(0), *weight]),
        asked=_asked(store, of.selection_id, from_pool, from_errors),
        unasked_weight=_unasked_weight(store, of.selection_id),
        doubt=joined([LabelDoubt.none(train.num_rows), doubt_of(store, data, of.config)]),
    )


def _asked(store: Store, selection_id: str, from_pool: pa.Table, failures: pa.Table) -> np.ndarray:
    """(A, 2): places of a pool image among the picks and of a failure that it was picked for."""
    neighbors = store.read_table(keys.selection_neighbors(selection_id))
    kept = neighbors.filter(neighbors["kept"])
    pool = pc.index_in(kept["image_id"], value_set=from_pool["image_id"].combine_chunks())
    failure = pc.index_in(kept["error_image_id"], value_set=failures["image_id"].combine_chunks())
    pairs = np.stack([at.fill_null(-1).to_numpy() for at in (pool, failure)], axis=1)
    return pairs[(pairs >= 0).all(axis=1)].astype(np.int64)


def _unasked_weight(store: Store, selection_id: str) -> float:
    """What a pick weighs that no failure asks for: as the general sample, where there is one."""
    picks = store.read_table(keys.selection_picks(selection_id), ["role", "weight"])
    general = picks["weight"].filter(pc.equal(picks["role"], "general"))
    return float(general[0].as_py()) if len(general) else 0.0


def _head_id(data: TrainingData, config: TrainingConfig) -> str:
    return keys.digest(
        "head",
        _HEAD_FORMAT,
        data.index.index_id,
        data.index.encoder_id,
        data.splits["train"].id,
        keys.table_digest(data.picks),
        config,
    )


def fit_to_features(store: Store, data: TrainingData, config: TrainingConfig) -> LinearHead:
    """Fit a head to the features of train and picks, as they are."""
    train = data.tables["train"]
    rows, labels = [train], train["label"].to_pylist()
    added_weight = [np.zeros(0)]
    for picks, table in _picked_features(store, data):
        rows.append(in_order_of(picks, table))
        labels += picks["label"].to_pylist()
        added_weight.append(picks["weight"].to_numpy())
    features = stacked_vectors(rows)
    standardizer = fit_standardizer(features[: train.num_rows])
    weight = loss_weights(labels, train.num_rows, np.concatenate(added_weight), config)
    doubt = joined([LabelDoubt.none(train.num_rows), doubt_of(store, data, config)])
    every = TrainingSet(features, labels, data.classes, weight, doubt)
    return fit_head(every, standardizer, config)


def doubt_of(store: Store, data: TrainingData, config: TrainingConfig) -> LabelDoubt:
    """Of all picks, by source; a pool image that was verified has a true label."""
    from_pool, from_errors = by_source(data.picks)
    sure = verified_picks(from_pool, data.reviewed)
    doubt = doubt_of_picks(
        store,
        data.index,
        from_pool.filter(pa.array(~sure)) if sure.any() else from_pool,
        int(sure.sum()) + from_errors.num_rows,
        data.splits["train"],
        data.classes,
        config,
    )
    if not sure.any():
        return doubt
    place = np.where(sure, (~sure).sum() + np.cumsum(sure), np.cumsum(~sure)) - 1
    rest = np.arange(len(sure), len(sure) + from_errors.num_rows)
    return doubt.take(np.concatenate([place, rest]))


def _picked_features(store: Store, data: TrainingData) -> list[tuple[pa.Table, pa.Table]]:
    """(picks, features that hold them) by source."""
    from_pool, from_errors = by_source(data.picks)
    found = []
    if from_pool.num_rows:
        labels = places_in_index(from_pool["label"], data.reviewed)
        found.append((from_pool, vectors_of(store, data.index, from_pool["image_id"], labels)))
    if from_errors.num_rows:
        found.append((from_errors, data.tables["error_sample"]))
    return found


def by_source(picks: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The picks from the pool, and those from the error sample."""
    is_pool = pc.equal(picks["source"], "pool")
    return picks.filter(is_pool), picks.filter(pc.invert(is_pool))
