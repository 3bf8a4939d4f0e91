"""Fit the classifier on features where labels may be wrong: losses of `dcd.training.losses`."""

import numpy as np

from dcd.config import TrainingConfig
from dcd.threads import one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.descent import SETTLED, Ending, MeanLoss, descend
from dcd.training.head import (
    LinearHead,
    Standardizer,
    class_indices,
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
    return _descend(start, data, losses_of(data, config), standardizer, config.l2, tolerance)


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
    ending = Ending(gradient=SETTLED, gain=tolerance, steps=_MAX_ITERATIONS)
    return folded(start.classes, descend(loss, unfolded(start, standardizer), ending), standardizer)
