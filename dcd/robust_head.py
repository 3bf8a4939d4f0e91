"""The classifier on features where labels may be wrong: the losses of `dcd.label_noise`."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import reduce

import numpy as np
from scipy.optimize import minimize

from dcd.backends import cores
from dcd.blas import one_blas_thread
from dcd.label_noise import ImageLosses, LabelDoubt, high_loss, image_losses
from dcd.training import LinearHead, Standardizer, class_indices, train_head
from dcd.training_config import TrainingConfig

# From a cross-entropy solution the rest of the way is short.
_MAX_ITERATIONS = 100
_BLOCK = 4096  # rows


def fit_head(
    features: np.ndarray,
    labels: Sequence[str],
    classes: tuple[str, ...],
    standardizer: Standardizer,
    weight: np.ndarray,
    doubt: LabelDoubt,
    config: TrainingConfig,
) -> LinearHead:
    """Fit a head to features (N, D) float32 as `config` says; deterministic.

    Without options against label noise it is `dcd.training.train_head`. With `drop_high_loss` a
    first fit to all images gives the losses. weight: (N,). Raises what `train_head` raises.
    """
    head = _fit(features, labels, classes, standardizer, weight, doubt, config)
    if config.drop_high_loss == 0 or not doubt.weak.any():
        return head
    losses_of = image_losses(class_indices(labels, classes), doubt, len(classes), config)
    losses, _ = losses_of(features @ head.weight.T + head.bias)
    kept = np.flatnonzero(~high_loss(losses, doubt.weak, config.drop_high_loss))
    return _fit(
        features[kept],
        [labels[i] for i in kept.tolist()],
        classes,
        standardizer,
        weight[kept],
        doubt.take(kept),
        config,
    )


def _fit(
    features: np.ndarray,
    labels: Sequence[str],
    classes: tuple[str, ...],
    standardizer: Standardizer,
    weight: np.ndarray,
    doubt: LabelDoubt,
    config: TrainingConfig,
) -> LinearHead:
    softened = config.soft_labels != "none" or config.loss == "forward"
    if config.q == 0 and not (softened and doubt.weak.any()):
        return train_head(features, labels, classes, standardizer, config.l2, weight)
    losses_of = image_losses(class_indices(labels, classes), doubt, len(classes), config)
    # The forward correction starts where the true labels lead; pool images only shift that.
    first = np.flatnonzero(~doubt.weak) if config.loss == "forward" else np.arange(len(labels))
    start = train_head(
        features[first],
        [labels[i] for i in first.tolist()],
        classes,
        standardizer,
        config.l2,
        weight[first],
    )
    return descend(start, features, losses_of, standardizer, config.l2, weight)


def descend(
    start: LinearHead,
    features: np.ndarray,
    losses_of: ImageLosses,
    standardizer: Standardizer,
    l2: float,
    weight: np.ndarray,
) -> LinearHead:
    """The local optimum that L-BFGS reaches from `start`.

    These losses are not convex, so where one starts matters; starting at a cross-entropy solution
    makes it deterministic. features: (N, D) float32. weight: (N,).
    """
    standardised = features - standardizer.mean
    standardised /= standardizer.std
    n_classes, dim = start.weight.shape
    with one_blas_thread(), ThreadPoolExecutor(cores()) as threads:
        rows = Rows(standardised, threads)

        def fun(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            w, b = parameters[:-n_classes].reshape(n_classes, dim), parameters[-n_classes:]
            return objective(w, b, rows, losses_of, l2, weight)

        w = start.weight * standardizer.std
        first = np.concatenate([w.ravel(), start.bias + start.weight @ standardizer.mean])
        options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-4}
        best = minimize(fun, first.astype(float), jac=True, method="L-BFGS-B", options=options).x
    w = best[:-n_classes].reshape(n_classes, dim) / standardizer.std
    b = best[-n_classes:] - w @ standardizer.mean
    return LinearHead(start.classes, w.astype(np.float32), b.astype(np.float32))


class Rows:
    """Features (N, D) whose products with few columns are taken block by block, side by side.

    BLAS threads only wait for each other on matrices this narrow (`dcd.training.train_head`). The
    blocks do not depend on the number of threads, so the sums do not either.
    """

    def __init__(self, features: np.ndarray, threads: Executor):
        self.dtype = features.dtype
        self._blocks = [features[i : i + _BLOCK] for i in range(0, len(features), _BLOCK)]
        self._threads = threads

    def times(self, w: np.ndarray) -> np.ndarray:
        """features · w' (N, C) for w (C, D)."""
        return np.concatenate(list(self._threads.map(lambda block: block @ w.T, self._blocks)))

    def summed(self, slopes: np.ndarray) -> np.ndarray:
        """slopes' · features (C, D) for slopes (N, C)."""
        parts = [slopes[i : i + _BLOCK] for i in range(0, len(slopes), _BLOCK)]
        found = self._threads.map(lambda part, block: part.T @ block, parts, self._blocks)
        return reduce(np.add, found)


def objective(
    w: np.ndarray, b: np.ndarray, rows: Rows, losses_of: ImageLosses, l2: float, weight: np.ndarray
) -> tuple[float, np.ndarray]:
    """Weighted mean loss + l2/2 · ‖W‖², and its gradient (C·D + C,) float64: first by W, then b.

    w: (C, D); b: (C,). The products with the features (N, D) are in their dtype.
    """
    logits = rows.times(w.astype(rows.dtype)) + b.astype(rows.dtype)
    losses, slopes = losses_of(logits)
    share = weight / weight.sum()
    slopes *= share[:, None].astype(slopes.dtype)
    by_w = rows.summed(slopes).astype(float) + l2 * w
    value = float(share @ losses.astype(float)) + l2 / 2 * float(np.sum(w * w))
    return value, np.concatenate([by_w.ravel(), slopes.sum(axis=0, dtype=float)])
