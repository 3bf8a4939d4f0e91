"""Fit the classifier on features where labels may be wrong: losses of `dcd.training.losses`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dcd.config import TrainingConfig
from dcd.threads import one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.descent import SETTLED, Ending, MeanLoss, descend, descend_together
from dcd.training.head import (
    LABELS_ARE_TRUE,
    TO_THE_END,
    LinearHead,
    Standardizer,
    as_they_are,
    class_indices,
    every_class_counts,
    folded,
    standardised,
    train_head,
    unfolded,
)
from dcd.training.losses import EVERY, ImageLosses, high_loss, image_losses

# From a cross-entropy solution the rest of the way is short.
_MAX_ITERATIONS = 100
# The last step's gain, as a share of the loss, that ends a descent.
EXACT, NEAR = 2.220446049250313e-09, 1e-5


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
    from; default: the cross-entropy solution. tolerance: the last step's gain, of such losses.
    Raises what `train_head` raises.
    """
    if not drops(data, config):
        return _fit(data, standardizer, config, start, tolerance)
    kept = without_high_loss(data, standardizer, config, start, tolerance)
    return _fit(data.take(kept), standardizer, config, start, tolerance)


@one_blas_thread()
def fit_together(
    data: TrainingSet,
    weights: Sequence[np.ndarray],
    config: TrainingConfig,
    start: LinearHead | None = None,
    tolerance: float = EXACT,
) -> list[LinearHead]:
    """Fit several heads to features as they are, each with weights of its own; deterministic.

    As `fit_head` fits each, but for the last digits, in one pass over the features at a time.
    weights: (N,) each; an image of weight 0 is none of that head's. data.weight does not count.
    Raises what `train_head` raises.
    """
    dim = data.features.shape[1]
    is_plain = _is_plain(data, config)
    if drops(data, config) or not (is_plain or start):
        each = [replace(data, weight=weight).take(np.flatnonzero(weight)) for weight in weights]
        return [fit_head(one, as_they_are(dim), config, start, tolerance) for one in each]
    target = class_indices(data.labels, data.classes)
    for weight in weights:
        every_class_counts(target, weight, data.classes)
    if is_plain or start is None:
        point, ending = np.zeros((len(data.classes), dim + 1)), TO_THE_END
        of_images = image_losses(target, data.doubt, len(data.classes), LABELS_ARE_TRUE)
    else:
        point, ending = unfolded(start, as_they_are(dim)), _ending(tolerance)
        of_images = losses_of(data, config)
    losses = [MeanLoss(data.features, of_images, weight, config.l2) for weight in weights]
    found = descend_together(losses, point, ending)
    return [folded(data.classes, point, as_they_are(dim)) for point in found]


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
    if _is_plain(data, config):
        return train_head(data, standardizer, config.l2)
    if start is None:
        # The forward correction starts where the true labels lead; pool images only shift that.
        forward = config.loss == "forward"
        first = np.flatnonzero(~data.doubt.weak) if forward else np.arange(len(data))
        start = train_head(data.take(first), standardizer, config.l2)
    return _descend(start, data, losses_of(data, config), standardizer, config.l2, tolerance)


def _is_plain(data: TrainingSet, config: TrainingConfig) -> bool:
    """Whether all labels are taken for true."""
    softened = config.soft_labels != "none" or config.loss == "forward"
    return config.q == 0 and not (softened and data.doubt.weak.any())


def _ending(tolerance: float) -> Ending:
    return Ending(gradient=SETTLED, gain=tolerance, steps=_MAX_ITERATIONS)


def losses_of(data: TrainingSet, config: TrainingConfig) -> ImageLosses:
    """Return the loss that a fit of these images minimises."""
    labels = class_indices(data.labels, data.classes)
    return image_losses(labels, data.doubt, len(data.classes), config)


def _descend(
    start: LinearHead,
    data: TrainingSet,
    losses: ImageLosses,
    standardizer: Standardizer,
    l2: float,
    tolerance: float,
) -> LinearHead:
    """Go on from `start` to the local optimum that L-BFGS reaches.

    These losses are not convex, so where one starts matters; starting at a cross-entropy solution
    makes it deterministic. tolerance: the descent ends where a step gains less than this share of
    the loss.
    """
    loss = MeanLoss(standardised(data.features, standardizer), losses, data.weight, l2)
    found = descend(loss, unfolded(start, standardizer), _ending(tolerance))
    return folded(start.classes, found, standardizer)
