"""The classifier on features where labels may be wrong: robust loss, soft labels, small loss."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from dcd.blas import one_blas_thread
from dcd.label_noise import LabelDoubt, high_loss, losses_and_slopes, prediction_shares, targets
from dcd.training import LinearHead, Standardizer, class_indices, train_head
from dcd.training_config import TrainingConfig

# From the cross-entropy solution the rest of the way is short.
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
    losses, _ = losses_and_slopes(
        features @ head.weight.T + head.bias,
        targets(class_indices(labels, classes), doubt, len(classes), config),
        prediction_shares(doubt, config),
        config.q,
    )
    kept = np.flatnonzero(~high_loss(losses, doubt.weak, config.drop_high_loss))
    return _fit(
        features[kept],
        [labels[i] for i in kept.tolist()],
        classes,
        standardizer,
        weight[kept],
        LabelDoubt(doubt.weak[kept], doubt.votes[kept]),
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
    head = train_head(features, labels, classes, standardizer, config.l2, weight)
    if config.q == 0 and (config.soft_labels == "none" or not doubt.weak.any()):
        return head
    target = targets(class_indices(labels, classes), doubt, len(classes), config)
    share = prediction_shares(doubt, config)
    return descend(head, features, target, share, config.q, standardizer, config.l2, weight)


def descend(
    head: LinearHead,
    features: np.ndarray,
    target: np.ndarray,
    prediction_share: np.ndarray,
    q: float,
    standardizer: Standardizer,
    l2: float,
    weight: np.ndarray,
) -> LinearHead:
    """The local optimum of the robust objective that L-BFGS reaches from `head`.

    The robust losses are not convex, so where one starts matters; starting at the cross-entropy
    solution makes it deterministic. features: (N, D) float32. target: (N, C) float32.
    prediction_share, weight: (N,).
    """
    standardised = (features - standardizer.mean) / standardizer.std
    n_classes, dim = head.weight.shape

    def fun(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = parameters[:-n_classes].reshape(n_classes, dim), parameters[-n_classes:]
        return objective(w, b, standardised, target, prediction_share, q, l2, weight)

    w = head.weight * standardizer.std
    start = np.concatenate([w.ravel(), head.bias + head.weight @ standardizer.mean])
    options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-4}
    with one_blas_thread():
        best = minimize(fun, start.astype(float), jac=True, method="L-BFGS-B", options=options).x
    w = best[:-n_classes].reshape(n_classes, dim) / standardizer.std
    b = best[-n_classes:] - w @ standardizer.mean
    return LinearHead(head.classes, w.astype(np.float32), b.astype(np.float32))


def objective(
    w: np.ndarray,
    b: np.ndarray,
    standardised: np.ndarray,
    target: np.ndarray,
    prediction_share: np.ndarray,
    q: float,
    l2: float,
    weight: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Weighted mean loss + l2/2 · ‖W‖², and its gradient (C·D + C,) float64: first by W, then b.

    w: (C, D); b: (C,). The products with the features are in the dtype of `standardised` (N, D).
    """
    logits = standardised @ w.T.astype(standardised.dtype) + b.astype(standardised.dtype)
    losses, slopes = losses_and_slopes(logits, target, prediction_share, q)
    share = weight / weight.sum()
    slopes *= share[:, None].astype(slopes.dtype)
    by_w = (slopes.T @ standardised).astype(float) + l2 * w
    value = float(share @ losses.astype(float)) + l2 / 2 * float(np.sum(w * w))
    return value, np.concatenate([by_w.ravel(), slopes.sum(axis=0, dtype=float)])
