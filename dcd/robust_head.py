"""The classifier on features where labels may be wrong: the losses of `dcd.label_noise`."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from dcd.blas import one_blas_thread
from dcd.label_noise import ImageLosses, LabelDoubt, high_loss, image_losses
from dcd.training import LinearHead, Standardizer, class_indices, train_head
from dcd.training_config import TrainingConfig

# From a cross-entropy solution the rest of the way is short.
_MAX_ITERATIONS = 100


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
    standardised = (features - standardizer.mean) / standardizer.std
    n_classes, dim = start.weight.shape

    def fun(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = parameters[:-n_classes].reshape(n_classes, dim), parameters[-n_classes:]
        return objective(w, b, standardised, losses_of, l2, weight)

    w = start.weight * standardizer.std
    first = np.concatenate([w.ravel(), start.bias + start.weight @ standardizer.mean])
    options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-4}
    with one_blas_thread():
        best = minimize(fun, first.astype(float), jac=True, method="L-BFGS-B", options=options).x
    w = best[:-n_classes].reshape(n_classes, dim) / standardizer.std
    b = best[-n_classes:] - w @ standardizer.mean
    return LinearHead(start.classes, w.astype(np.float32), b.astype(np.float32))


def objective(
    w: np.ndarray,
    b: np.ndarray,
    standardised: np.ndarray,
    losses_of: ImageLosses,
    l2: float,
    weight: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Weighted mean loss + l2/2 · ‖W‖², and its gradient (C·D + C,) float64: first by W, then b.

    w: (C, D); b: (C,). The products with the features are in the dtype of `standardised` (N, D).
    """
    logits = standardised @ w.T.astype(standardised.dtype) + b.astype(standardised.dtype)
    losses, slopes = losses_of(logits)
    share = weight / weight.sum()
    slopes *= share[:, None].astype(slopes.dtype)
    by_w = (slopes.T @ standardised).astype(float) + l2 * w
    value = float(share @ losses.astype(float)) + l2 / 2 * float(np.sum(w * w))
    return value, np.concatenate([by_w.ravel(), slopes.sum(axis=0, dtype=float)])
