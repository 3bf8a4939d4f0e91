"""How a cell's model is trained: a head on cached features (whole networks: `networks`)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import UNJUDGED_SPLITS, EncoderConfig, Split, TrainingConfig
from dcd.encoders.kept import kept_folder
from dcd.index.info import IndexInfo
from dcd.index.read import read_vectors
from dcd.label_noise.doubt import doubt_of_picks
from dcd.selection.reviewed import places_in_index, verified_picks
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables.rows import codes, in_order_of
from dcd.tables.vectors import embedding_matrix
from dcd.training.data import CurvePoint, TrainingSet
from dcd.training.head import (
    LinearHead,
    Predictions,
    fit_standardizer,
    loss_weights,
    predict,
    train_head,
)
from dcd.training.losses import LabelDoubt, joined
from dcd.training.robust_head import fit_head
from dcd.training.saved_heads import keep_model, kept_head, save_from_kept

# Raised whenever the same images would give another head.
_HEAD_FORMAT = 2

_HELD_BYTES = 64 * 2**20  # of features of splits, the last ones that were asked for
_held: dict[tuple[str, ...], np.ndarray] = {}
_held_lock = threading.Lock()


@dataclass(frozen=True)
class TrainingData:
    """What a cell trains and evaluates on, and where its images and vectors are.

    tables: schemas.labelled_features of every split. picks: schemas.PICKS. classes: those of train.
    targeted: ids of the picks that a selection made for failures, or that people verified, not as a
    general sample. reviewed: schemas.REVIEWED, where reviews count in the picks. failing: ids of
    the picks that people verified and that are used as failures.
    """

    tables: Mapping[Split, pa.Table]
    splits: Mapping[Split, SplitInfo]
    picks: pa.Table
    pool: Source
    index: IndexInfo
    classes: tuple[str, ...]
    targeted: pa.Array
    reviewed: pa.Table | None = None
    failing: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))


@dataclass(frozen=True)
class TrainedModel:
    """Predictions for every split but train. save: writes the model as a folder.

    curve: accuracies along the line between two models that the model was chosen from, alpha being
    the place of the chosen one; empty where nothing was chosen. line: the names of its ends.
    chosen: which model that is and why, in a sentence; empty where nothing was chosen.
    out_of_fold: schemas.OUT_OF_FOLD, where the choice asked models that did not see the failures.
    """

    predicted: Mapping[Split, Predictions]
    save: Callable[[Path], None]
    alpha: float = 1.0
    curve: tuple[CurvePoint, ...] = ()
    line: tuple[str, str] = ("original", "fine-tuned")
    chosen: str = ""
    out_of_fold: pa.Table | None = None


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
    data = in_fixed_order(data)
    _, from_errors = by_source(data.picks)
    if from_errors.num_rows:
        head = fit_to_features(store, data, config)
    else:
        fit = partial(fit_to_features, store, data, config)
        head = kept_head(store, _head_id(data, config), fit)
    return of_head(head, data, encoder)


def in_fixed_order(data: TrainingData) -> TrainingData:
    """By source and image_id, whichever of them the failures ask for; of the pool failures last.

    The sums of a fit are then the same for the same images, bit by bit.
    """
    picks = data.picks
    picks = picks.append_column("is_failing", is_failing(picks, data))
    order = [(name, "ascending") for name in ("source", "is_failing", "image_id")]
    return replace(data, picks=picks.sort_by(order).drop_columns(["is_failing"]))


def is_failing(picks: pa.Table, data: TrainingData) -> pa.ChunkedArray:
    """Which picks are images of the pool that are used as failures."""
    named = pc.is_in(picks["image_id"], value_set=data.failing)
    return pc.and_(named, pc.equal(picks["source"], "pool"))


def of_head(head: LinearHead, data: TrainingData, encoder: EncoderConfig) -> TrainedModel:
    def save(directory: Path) -> None:
        kept = kept_folder(encoder)
        if kept is not None and save_from_kept(directory, kept, head):
            return
        from dcd.encoders.network import load_network, preprocess_of
        from dcd.training.saved_models import save_model, with_head

        network = with_head(load_network(encoder), head)
        save_model(directory, network, data.classes, preprocess_of(encoder), encoder.model)
        if kept is not None:
            keep_model(kept, directory)

    found: dict[Split, Predictions] = {
        split: predict(head, features_of_split(data, split))
        for split in data.tables
        if split not in UNJUDGED_SPLITS
    }
    return TrainedModel(found, save)


def features_of_split(data: TrainingData, split: Split) -> np.ndarray:
    """Turn a split's vectors into (N, D) float32, once for all cells of a process that judge on it.

    A large split is turned for each: it would be held for long.
    """
    table = data.tables[split]
    if 4 * table.num_rows * data.index.dim > _HELD_BYTES:
        return embedding_matrix(table)
    # Labels that a model does not know leave rows out, so the ids count as well.
    key = (
        data.splits[split].id,
        data.index.encoder_id,
        keys.table_digest(table.select(["image_id"])),
    )
    with _held_lock:
        features = _held.pop(key, None)
    if features is None:
        features = embedding_matrix(table)
        features.flags.writeable = False
    with _held_lock:
        _held[key] = features
        while sum(held.nbytes for held in _held.values()) > _HELD_BYTES:
            _held.pop(next(iter(_held)))
    return features


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
    n_train = data.tables["train"].num_rows
    rows = rows_of(store, data, config)
    standardizer = fit_standardizer(rows.features[:n_train])
    weight = loss_weights(rows.labels, n_train, rows.added_weight, config)
    every = TrainingSet(rows.features, rows.labels, data.classes, weight, rows.doubt)
    return fit_head(every, standardizer, config, _kept_start(store, data, every, config))


def _kept_start(
    store: Store, data: TrainingData, every: TrainingSet, config: TrainingConfig
) -> LinearHead | None:
    """Where `fit_head` starts from by itself, kept where that is the head of train alone."""
    n_train = data.tables["train"].num_rows
    weak = every.doubt.weak
    is_of_train = len(every) > n_train and not weak[:n_train].any() and weak[n_train:].all()
    if config.q or config.loss != "forward" or not is_of_train:
        return None
    of_train = every.take(np.arange(n_train))
    made_from = [data.index.encoder_id, data.splits["train"].id, config.l2]
    weights = keys.table_digest(pa.table({"weight": of_train.weight}))
    standardizer = fit_standardizer(of_train.features)
    fit = partial(train_head, of_train, standardizer, config.l2)
    return kept_head(store, keys.digest("start", _HEAD_FORMAT, made_from, weights), fit)


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Images of train, then the picks by source: features (N + A, D), labels and their doubt.

    added_weight: (A,) of the picks in the loss.
    """

    features: np.ndarray
    labels: list[str]
    added_weight: np.ndarray
    doubt: LabelDoubt


def rows_of(store: Store, data: TrainingData, config: TrainingConfig) -> FeatureRows:
    """Gather what a head is trained on."""
    train, (from_pool, from_errors) = data.tables["train"], by_source(data.picks)
    n_train, n_pool = train.num_rows, from_pool.num_rows
    # Each number goes to its place at once: there is no second copy of what may be most of memory.
    features = np.empty((n_train + data.picks.num_rows, data.index.dim), np.float32)
    features[:n_train] = embedding_matrix(train)
    _read_from_pool(store, data, from_pool, features[n_train : n_train + n_pool])
    if from_errors.num_rows:
        failures = in_order_of(from_errors, data.tables["error_sample"])
        features[n_train + n_pool :] = embedding_matrix(failures)
    rows = (train, from_pool, from_errors)
    labels = [label for table in rows for label in table["label"].to_pylist()]
    weight = np.concatenate([table["weight"].to_numpy() for table in rows[1:]])
    doubt = joined([LabelDoubt.none(n_train), doubt_of(store, data, config)])
    return FeatureRows(features, labels, weight, doubt)


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


def _read_from_pool(
    store: Store, data: TrainingData, picks: pa.Table, features: np.ndarray
) -> None:
    """Read the features of picks from the pool, (N, D), to their place."""
    if not picks.num_rows:
        return
    labels = places_in_index(picks["label"], data.reviewed)
    ids = pc.unique(picks["image_id"])
    if len(ids) == picks.num_rows:
        read_vectors(store, data.index, picks["image_id"], features, labels)
        return
    once = np.empty((len(ids), features.shape[1]), np.float32)
    read_vectors(store, data.index, pa.chunked_array([ids]), once, labels)
    features[:] = once[codes(picks["image_id"].combine_chunks(), ids)]


def by_source(picks: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The picks from the pool, and those from the error sample."""
    is_pool = pc.equal(picks["source"], "pool")
    return picks.filter(is_pool), picks.filter(pc.invert(is_pool))
