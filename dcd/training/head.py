"""Fit the classifier on cached features, and say what it answers: multinomial regression."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.threads import in_blocks, one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.descent import SETTLED, Ending, MeanLoss, descend
from dcd.training.losses import image_losses

# Rare features make the last digits of the optimum slow to reach; predictions settle long before.
TO_THE_END = Ending(gradient=SETTLED, gain=1e-14, steps=300)
LABELS_ARE_TRUE = TrainingConfig(loss="cross_entropy")
_ROWS_AT_ONCE = 4096
_REMEMBERED_BYTES = 64 * 2**20  # of features: larger ones are hardly ever asked for twice


@dataclass(frozen=True)
class Standardizer:
    """Per-feature mean and standard deviation: (D,) float32 each."""

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier on raw features. weight: (C, D) float32; bias: (C,) float32."""

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """What a model says of N images: the likeliest label and its probability, (N,) float32."""

    labels: list[str]
    confidence: np.ndarray


def fit_standardizer(features: np.ndarray) -> Standardizer:
    """Fit mean and std of features (N, D), on train alone. Constant features get std 1.

    Raises DataError if there are no rows or a value is not finite.
    """
    if features.ndim != 2 or len(features) == 0:
        raise DataError(f"train: expected features (N, D) with N > 0, found {features.shape}")
    _must_be_finite(features, "train")
    std = features.std(axis=0, dtype=np.float64)
    mean = features.mean(axis=0, dtype=np.float64)
    # Rounding leaves a constant feature a tiny std, which would blow it up elsewhere.
    constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return Standardizer(mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32))


def as_they_are(dim: int) -> Standardizer:
    """Return what leaves features of so many dimensions as they are."""
    return Standardizer(np.zeros(dim, np.float32), np.ones(dim, np.float32))


@one_blas_thread()
def train_head(data: TrainingSet, standardizer: Standardizer, l2: float) -> LinearHead:
    """Fit softmax regression by L-BFGS, all labels being taken for true; deterministic.

    Minimises the weighted mean cross-entropy + l2/2 · ‖W‖² over standardised features, the bias
    unpenalised. The standardiser is folded into the returned head.

    Raises LabelError if a label is not in `classes` or a class has no image, DataError if shapes
    disagree or a value is not finite.
    """
    classes, expected = data.classes, (len(data), len(standardizer.mean))
    if data.features.shape != expected:
        raise DataError(
            f"training images: expected features {expected} for {len(data)} labels, found "
            f"{data.features.shape}"
        )
    _must_be_finite(data.features, "training images")
    weight = np.asarray(data.weight, float)
    target = class_indices(data.labels, classes)
    every_class_counts(target, weight, classes)

    def fit() -> LinearHead:
        losses = image_losses(target, data.doubt, len(classes), LABELS_ARE_TRUE)
        loss = MeanLoss(standardised(data.features, standardizer), losses, weight, l2)
        found = descend(loss, np.zeros((len(classes), expected[1] + 1)), TO_THE_END)
        return folded(classes, found, standardizer)

    if data.features.nbytes > _REMEMBERED_BYTES:
        return fit()
    seen = hashlib.blake2b(repr((classes, l2, expected)).encode())
    for array in (data.features, target, weight, standardizer.mean, standardizer.std):
        seen.update(np.ascontiguousarray(array).data)
    return _remembered.get(seen.digest(), fit)


def every_class_counts(target: np.ndarray, weight: np.ndarray, classes: Sequence[str]) -> None:
    """Raise LabelError where a class has no image of some weight.

    target, weight: (N,), class indices and weights in the loss.
    """
    in_class = np.bincount(target, weight, minlength=len(classes))
    if np.any(in_class <= 0):
        missing = [name for name, total in zip(classes, in_class, strict=True) if total <= 0]
        raise LabelError(f"training images: none has the label {missing}; every class needs one")


class _Remembered:
    """The last heads of this process: methods of a comparison begin with the same one of train."""

    def __init__(self, n: int):
        self._n, self._lock = n, threading.Lock()
        self._heads: OrderedDict[bytes, LinearHead] = OrderedDict()

    def get(self, key: bytes, fit: Callable[[], LinearHead]) -> LinearHead:
        """Return the head of these data; of two threads that miss it both fit the same one."""
        with self._lock:
            head = self._heads.get(key)
        if head is None:
            head = fit()
        with self._lock:
            self._heads[key] = head
            self._heads.move_to_end(key)
            if len(self._heads) > self._n:
                self._heads.popitem(last=False)
        return head

    def forget(self) -> None:
        """Forget all, as a new process would."""
        with self._lock:
            self._heads.clear()


_remembered = _Remembered(8)


def standardised(features: np.ndarray, standardizer: Standardizer) -> np.ndarray:
    """Return standardised copies of raw features (N, D), or what is standardised already."""
    if not standardizer.mean.any() and (standardizer.std == 1).all():
        return features
    found = np.empty_like(features)

    def fill(rows: slice) -> None:
        np.subtract(features[rows], standardizer.mean, out=found[rows])
        found[rows] /= standardizer.std

    in_blocks(len(features), _ROWS_AT_ONCE, fill)
    return found


def folded(classes: tuple[str, ...], point: np.ndarray, standardizer: Standardizer) -> LinearHead:
    """Return the head on raw features that says what (C, D + 1) says of standardised ones.

    point: the weights, then the bias.
    """
    weight = point[:, :-1] / standardizer.std
    bias = point[:, -1] - weight @ standardizer.mean
    return LinearHead(classes, weight.astype(np.float32), bias.astype(np.float32))


def unfolded(head: LinearHead, standardizer: Standardizer) -> np.ndarray:
    """Invert `folded`: (C, D + 1) float64."""
    bias = head.bias + head.weight @ standardizer.mean
    return np.column_stack([head.weight * standardizer.std, bias]).astype(float)


@one_blas_thread()
def probabilities(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C) float32 of raw features (N, D), columns as `head.classes`."""
    if features.ndim != 2 or features.shape[1] != head.weight.shape[1]:
        raise EncoderMismatch(
            f"head: expected features (N, {head.weight.shape[1]}), found {features.shape}; "
            "embed the images with the encoder that the head was trained on"
        )
    return softmax(features @ head.weight.T + head.bias)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the row-wise softmax of (N, C), in the dtype of `logits`."""
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def likeliest(probability: np.ndarray, classes: tuple[str, ...]) -> Predictions:
    """Return the top class of each row of (N, C) probabilities; the first class wins a tie."""
    top = probability.argmax(axis=1)
    confidence = probability[np.arange(len(top)), top].astype(np.float32)
    return Predictions([classes[i] for i in top], confidence)


def predict(head: LinearHead, features: np.ndarray) -> Predictions:
    """Return a head's predictions for raw features (N, D)."""
    return likeliest(probabilities(head, features), head.classes)


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return each label's position in `classes`: (N,) int64. Raises LabelError if it has none."""
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(labels) - index.keys())
    if unknown:
        raise LabelError(
            f"training images: labels {unknown[:5]} are not among the {len(classes)} classes "
            f"({list(classes[:5])}…); map them to classes of train or drop those images"
        )
    return np.fromiter(map(index.__getitem__, labels), np.int64, len(labels))


def loss_weights(
    labels: Sequence[str], n_train: int, added_weight: np.ndarray, config: TrainingConfig
) -> np.ndarray:
    """Return weights (N,) float32 in the loss for n_train images of train, then the added ones.

    added_weight: the picks' own weights, multiplied by `config.debug_train_weight`. With balanced
    classes, every class present gets the same total.
    """
    weight = np.concatenate([np.ones(n_train), config.debug_train_weight * added_weight])
    if config.class_weighting == "balanced":
        _, target = np.unique(labels, return_inverse=True)
        total = np.bincount(target, weight)
        weight = weight * (total.mean() / total)[target]
    return weight.astype(np.float32)


def hold_out(labels: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Choose images to hold out, (N,) bool: `share` of every class, rounded down."""
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    _, target = np.unique(labels, return_inverse=True)
    for members in (np.flatnonzero(target == i) for i in range(target.max(initial=-1) + 1)):
        held_out[rng.permutation(members)[: int(share * len(members))]] = True
    return held_out


def _must_be_finite(features: np.ndarray, place: str) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DataError(
            f"{place}: {len(bad)} of {len(features)} feature rows are not finite "
            f"(first: row {bad[0]}); embed these images again"
        )
