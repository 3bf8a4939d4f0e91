"""Estimate how a pool's labels are wrong, without anybody's true labels of it.

A classifier fitted to `train` guesses the classes of pool images. Its own confusions are known
from images of train that it has not seen (cross-validation). What remains between its guesses and
the pool's labels, once these confusions are unfolded, is the noise of the labels: it must be that
A' M = J, with

    A[c, g]  how often class c is guessed to be g, on train
    J[g, w]  how often an image guessed to be g carries the label w, in the pool
    M[c, w]  how often class c carries the label w, in the pool: what is wanted, not negative.

Confusions on trusted data for noise on doubtful data: Hendrycks, Mazeika, Wilson, Gimpel, "Using
trusted data to train deep networks on labels corrupted by severe noise" (NeurIPS 2018). Unfolding
by expectation maximisation: D'Agostini, "A multidimensional unfolding method based on Bayes'
theorem" (1995). As there, what is assumed is that within a class guess and label are independent.

Where the guesses say little of the class, A' is near to singular and many M fit: unfolding then
stays near what it started from. So it is started from several shares of right labels, on the counts
and on counts drawn anew, and how far the answers lie apart says what is known.
"""

from dataclasses import dataclass

import numpy as np

from dcd.threads import one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.head import class_indices, fit_standardizer, probabilities, train_head

_FOLDS = 3
_ALWAYS, _LEFT_OUT = -1, -2
_L2 = 0.05  # strong: the guesses should be no surer than a few images allow
_MAX_TRAIN = 20_000  # images: more would not make the estimate better
_ITERATIONS = 200
_RIGHT_AT_FIRST = 0.7
_OTHER_STARTS = (0.5, 0.9)
_WIDEST = 0.15  # range of the share of right labels that still is a measurement
_LEAST = 1e-4  # no label is impossible for any class


@dataclass(frozen=True)
class RightShare:
    """Estimated share of the pool's labels that are right, in 0…1.

    low, high: between what the estimate lies from other starts and on counts drawn anew.
    """

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the data decide it, and not what the estimate started from."""
        return self.high - self.low <= _WIDEST

    def __str__(self) -> str:
        between = f"between {100 * self.low:.0f} and {100 * self.high:.0f} %"
        if not self.is_known:
            return f"share of right ones unknown: train's classes do not tell ({between})"
        return f"about {100 * self.value:.0f} % right ({between}), as estimated from train"


@dataclass(frozen=True)
class NoiseMatrix:
    """matrix: (C, C) float32, rows the true class, columns the label; rows have the sum 1."""

    classes: tuple[str, ...]
    matrix: np.ndarray
    right: RightShare


@one_blas_thread()
def estimate_noise(
    train_features: np.ndarray,
    train_labels: list[str],
    pool_features: np.ndarray,
    pool_labels: np.ndarray,
    classes: tuple[str, ...],
) -> NoiseMatrix:
    """Estimate the noise of pool labels (P,), positions in `classes`.

    train_features: (N, D) float32, of images whose labels are right, every class being there.
    pool_features: (P, D) float32, none of them an image of train. Deterministic.
    """
    guessed, of_pool = _guesses(train_features, train_labels, pool_features, classes)
    n_classes = len(classes)
    confusions = np.eye(n_classes)  # one imagined image a class, guessed rightly
    np.add.at(confusions, class_indices(train_labels, classes), guessed)
    confusions /= confusions.sum(axis=1, keepdims=True)
    joint = np.zeros((n_classes, n_classes))
    for label in range(n_classes):
        joint[:, label] = of_pool[pool_labels == label].sum(axis=0, dtype=float)
    counts = unfold(confusions, joint) + np.eye(n_classes)
    matrix = np.maximum(counts / counts.sum(axis=1, keepdims=True), _LEAST)
    matrix /= matrix.sum(axis=1, keepdims=True)
    right = _right_share(counts, confusions, joint)
    return NoiseMatrix(classes, matrix.astype(np.float32), right)


def unfold(
    confusions: np.ndarray, joint: np.ndarray, right_at_first: float = _RIGHT_AT_FIRST
) -> np.ndarray:
    """Find M (C, W), not negative, such that confusions' M is near joint.

    confusions: (C, G), rows of sum 1. joint: (G, W) counts. right_at_first: share of right labels
    in what it starts from. Stops after a fixed number of steps, long before it fits the noise of
    small counts. A class whose label the pool never gives is taken for absent from it: its row is
    0, where small confusions would else spread the images of other classes over it.
    """
    n_classes = len(confusions)
    start = np.full((n_classes, joint.shape[1]), (1 - right_at_first) / max(n_classes - 1, 1))
    np.fill_diagonal(start, right_at_first)
    start[joint.sum(axis=0) == 0] = 0
    found = start * joint.sum() / n_classes
    for _ in range(_ITERATIONS):
        expected = np.maximum(confusions.T @ found, 1e-12)
        found = found * (confusions @ (joint / expected))
    return found


def _right_share(counts: np.ndarray, confusions: np.ndarray, joint: np.ndarray) -> RightShare:
    """How far it is known: from several starts, on the counts and on counts drawn anew."""
    value = float(np.trace(counts) / counts.sum())
    again = np.random.default_rng(0).poisson(joint).astype(float)
    found = [value]
    for of_joint, starts in ((joint, _OTHER_STARTS), (again, (_RIGHT_AT_FIRST, *_OTHER_STARTS))):
        for start in starts:
            one = unfold(confusions, of_joint, start) + np.eye(len(confusions))
            found.append(float(np.trace(one) / one.sum()))
    return RightShare(value, min(found), max(found))


def _guesses(
    train_features: np.ndarray,
    train_labels: list[str],
    pool_features: np.ndarray,
    classes: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of train (N, C) and of the pool (P, C), by classifiers that saw neither.

    Rows of train images that are not guessed are 0: those beyond `_MAX_TRAIN`, and the only image
    of a class, which every classifier needs.
    """
    labels = np.array(train_labels)
    fold = _folds(labels, classes)
    of_train = np.zeros((len(labels), len(classes)))
    of_pool = np.zeros((len(pool_features), len(classes)), np.float32)
    every = TrainingSet.of_true_labels(train_features, train_labels, classes)
    standardizer = fit_standardizer(train_features)
    for n in range(_FOLDS):
        used = np.flatnonzero((fold != n) & (fold != _LEFT_OUT))
        head = train_head(every.take(used), standardizer, _L2)
        held_out = np.flatnonzero(fold == n)
        if len(held_out):
            of_train[held_out] = probabilities(head, train_features[held_out])
        of_pool += probabilities(head, pool_features) / _FOLDS
    return of_train, of_pool


def _folds(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """The fold of every image (N,), drawn within its class; `_ALWAYS` and `_LEFT_OUT` are none."""
    rng = np.random.default_rng(0)
    fold = np.full(len(labels), _LEFT_OUT)
    for name in classes:
        members = rng.permutation(np.flatnonzero(labels == name))[: _MAX_TRAIN // len(classes) + 1]
        fold[members] = np.arange(len(members)) % _FOLDS if len(members) > 1 else _ALWAYS
    return fold
