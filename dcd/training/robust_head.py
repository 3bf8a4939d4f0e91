"""Fit the classifier on features where labels may be wrong: losses of `dcd.training.losses`."""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from dcd.config import TrainingConfig
from dcd.threads import cores, one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.head import LinearHead, Standardizer, class_indices, train_head
from dcd.training.losses import EVERY, ImageLosses, high_loss, image_losses

# From a cross-entropy solution the rest of the way is short.
_MAX_ITERATIONS = 100
# The last step's gain, as a share of the loss, that ends a descent; the first is scipy's own.
EXACT, NEAR = 2.220446049250313e-09, 1e-5
_BLOCK_BYTES = 5 * 2**20  # of features: what a core's cache holds


@one_blas_thread()
def fit_head(
    data: TrainingSet,
    standardizer: Standardizer,
    config: TrainingConfig,
    start: LinearHead | None = None,
    tolerance: float = EXACT,
) -> LinearHead:
    """Fit a head as `config` says; deterministic.

    Without options against label noise it is `dcd.training.head.train_head`. With `drop_high_loss`
    a first fit to all images gives the losses. start: where a loss that is not convex is descended
    from; default: the cross-entropy solution. tolerance: of `descend`, for such losses. Raises
    what `train_head` raises.
    """
    if not drops(data, config):
        return _fit(data, standardizer, config, start, tolerance)
    kept = without_high_loss(data, standardizer, config, start, tolerance)
    return _fit(data.take(kept), standardizer, config, start, tolerance)


def drops(data: TrainingSet, config: TrainingConfig) -> bool:
    """Whether a fit leaves out images for their loss."""
    return config.drop_high_loss > 0 and bool(data.doubt.weak.any())


def without_high_loss(
    data: TrainingSet,
    standardizer: Standardizer,
    config: TrainingConfig,
    start: LinearHead | None = None,
    tolerance: float = EXACT,
) -> np.ndarray:
    """Return the positions of the images that `drop_high_loss` keeps, by a fit to all of them."""
    head = _fit(data, standardizer, config, start, tolerance)
    logits = data.features @ head.weight.T + head.bias
    losses, _ = losses_of(data, config)(logits, EVERY)
    return np.flatnonzero(~high_loss(losses, data.doubt.weak, config.drop_high_loss))


def _fit(
    data: TrainingSet,
    standardizer: Standardizer,
    config: TrainingConfig,
    start: LinearHead | None,
    tolerance: float,
) -> LinearHead:
    softened = config.soft_labels != "none" or config.loss == "forward"
    if config.q == 0 and not (softened and data.doubt.weak.any()):
        return train_head(data, standardizer, config.l2)
    if start is None:
        # The forward correction starts where the true labels lead; pool images only shift that.
        forward = config.loss == "forward"
        first = np.flatnonzero(~data.doubt.weak) if forward else np.arange(len(data))
        start = train_head(data.take(first), standardizer, config.l2)
    return descend(start, data, losses_of(data, config), standardizer, config.l2, tolerance)


def losses_of(data: TrainingSet, config: TrainingConfig) -> ImageLosses:
    """Return the loss that a fit of these images minimises."""
    labels = class_indices(data.labels, data.classes)
    return image_losses(labels, data.doubt, len(data.classes), config)


def descend(
    start: LinearHead,
    data: TrainingSet,
    losses_of: ImageLosses,
    standardizer: Standardizer,
    l2: float,
    tolerance: float = EXACT,
) -> LinearHead:
    """Go on from `start` to the local optimum that L-BFGS reaches.

    These losses are not convex, so where one starts matters; starting at a cross-entropy solution
    makes it deterministic. tolerance: the descent ends where a step gains less than this share of
    the loss.
    """
    standardised = data.features - standardizer.mean
    standardised /= standardizer.std
    n_classes, dim = start.weight.shape
    loss = MeanLoss(standardised, losses_of, data.weight, l2)
    with one_blas_thread(), ThreadPoolExecutor(cores()) as threads:

        def fun(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            w, b = parameters[:-n_classes].reshape(n_classes, dim), parameters[-n_classes:]
            return loss.at(w, b, threads)

        w = start.weight * standardizer.std
        first = np.concatenate([w.ravel(), start.bias + start.weight @ standardizer.mean])
        options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-4, "ftol": tolerance}
        best = minimize(fun, first.astype(float), jac=True, method="L-BFGS-B", options=options).x
    w = best[:-n_classes].reshape(n_classes, dim) / standardizer.std
    b = best[-n_classes:] - w @ standardizer.mean
    return LinearHead(start.classes, w.astype(np.float32), b.astype(np.float32))


@dataclass(frozen=True)
class MeanLoss:
    """Weighted mean loss + l2/2 · ‖W‖² of a linear classifier.

    features: (N, D), standardised. weight: (N,). The products with the features are in their dtype.
    """

    features: np.ndarray
    losses_of: ImageLosses
    weight: np.ndarray
    l2: float

    def at(self, w: np.ndarray, b: np.ndarray, threads: Executor) -> tuple[float, np.ndarray]:
        """Return the loss, and its gradient (C·D + C,) float64: first by W, then by b.

        w: (C, D); b: (C,). Block by block, so that the features come from memory once and not
        twice, and side by side, for BLAS's own threads only wait for each other on matrices this
        narrow (`dcd.training.head.train_head`). The blocks, and so the sums, do not depend on the
        number of threads.
        """
        dtype = self.features.dtype
        own_w, own_b = w.astype(dtype), b.astype(dtype)
        share = self.weight / self.weight.sum()

        def of_block(rows: slice) -> tuple[float, np.ndarray, np.ndarray]:
            block = self.features[rows]
            losses, slopes = self.losses_of(block @ own_w.T + own_b, rows)
            slopes *= share[rows, None].astype(dtype)
            loss = float(share[rows] @ losses.astype(float))
            return loss, slopes.T @ block, slopes.sum(axis=0, dtype=float)

        value, by_w, by_b = self.l2 / 2 * float(np.sum(w * w)), self.l2 * w, np.zeros(len(b))
        for loss, of_w, of_b in threads.map(of_block, self._blocks()):
            value, by_w, by_b = value + loss, by_w + of_w, by_b + of_b
        return value, np.concatenate([by_w.ravel(), by_b])

    def _blocks(self) -> list[slice]:
        n, dim = self.features.shape
        step = max(1, _BLOCK_BYTES // (dim * self.features.itemsize))
        return [slice(i, i + step) for i in range(0, n, step)]
