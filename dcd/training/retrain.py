"""Retrain a whole model on train + added images: hold out, fine-tune, ensemble."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from dcd.config import TrainingConfig
from dcd.images.spool import chained, taken
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import CurvePoint, LabelledImages, Progress, Recipe, RetrainingData
from dcd.training.ensembling import (
    choose,
    ensemble,
    interpolation_curve,
    recompute_batchnorm,
)
from dcd.training.finetune import finetune, predict_images
from dcd.training.head import hold_out, loss_weights
from dcd.training.losses import LabelDoubt, joined

_BATCHNORM_IMAGES = 2048


@dataclass(frozen=True)
class RetrainedModel:
    """The retrained network. `curve` is empty unless alpha was chosen; alpha 1: no ensemble."""

    network: nn.Module
    alpha: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class HeldOut:
    """The images of train that are trained on, and those that judge instead."""

    kept: LabelledImages
    val: LabelledImages

    @classmethod
    def of(cls, train: LabelledImages, recipe: Recipe) -> "HeldOut":
        """Hold out the share of train that the config asks for, by `hold_out`."""
        is_val = hold_out(train.labels, recipe.config.val_share, recipe.seed)
        return cls(*(train.take(np.flatnonzero(rows)) for rows in (~is_val, is_val)))


def retrain(
    original: Callable[[], nn.Module],
    data: RetrainingData,
    recipe: Recipe,
    *,
    original_saw_val: bool = False,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RetrainedModel:
    """Fine-tune a fresh `original()` on train + added, and ensemble it with the original.

    The original should already classify (its head trained on train): fine-tuning from there
    distorts the features least (Kumar et al. 2022, "Fine-tuning can distort pretrained features
    and underperform out-of-distribution", ICLR), and only then do weights between the two make
    sense. `config.val_share` of train is held out as val. val and debug_val, weighing the same,
    decide the epoch; alpha is the one best on debug_val that does not lose on val: against the
    original, or, where that was trained on val and so knows it too well, against the fine-tuned
    end. `data.shown` is put on the curve and decides nothing. Raises what `finetune` raises.
    """
    config = recipe.config
    held_out = HeldOut.of(data.train, recipe)
    learnt = together(held_out.kept, data.added, config)
    judges = judges_of({"val": held_out.val, "debug_val": data.debug_val}, recipe)
    finetuned = finetune(
        original(),
        learnt,
        recipe,
        validate=partial(mean_score, judges=judges) if config.patience is not None else None,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    if config.ensemble_alpha is None:
        return RetrainedModel(finetuned, 1.0, ())

    before = original().to(next(finetuned.parameters()).device)
    recompute = batchnorm_of(learnt, recipe)
    if config.ensemble_alpha != "choose":
        alpha, curve = config.ensemble_alpha, ()
    else:
        on_curve = judges | judges_of(data.shown, recipe)
        curve = interpolation_curve(before, finetuned, recompute, on_curve)
        improve = "debug_val" if data.debug_val else "val"
        alpha = choose(curve, "val", improve, rival=1.0 if original_saw_val else 0.0).alpha
    return RetrainedModel(ensemble(before, finetuned, alpha, recompute), alpha, curve)


def together(
    train: LabelledImages, added: LabelledImages, config: TrainingConfig
) -> LabelledImages:
    """Put train and added into one, weighed as the config says. Labels of train are true."""
    labels = [*train.labels, *added.labels]
    added_weight = np.ones(len(added)) if added.weight is None else added.weight
    doubt = LabelDoubt.none(len(added)) if added.doubt is None else added.doubt
    return LabelledImages(
        chained([train.images, added.images]),
        labels,
        loss_weights(labels, len(train), added_weight, config),
        joined([LabelDoubt.none(len(train)), doubt]),
    )


def judges_of(
    judging: Mapping[str, LabelledImages | None], recipe: Recipe
) -> dict[str, Callable[[nn.Module], float]]:
    """Give the accuracy on each of these, where it has images."""
    return {
        name: partial(_accuracy, data=data, recipe=recipe) for name, data in judging.items() if data
    }


def mean_score(network: nn.Module, judges: Mapping[str, Callable[[nn.Module], float]]) -> float:
    """Give the mean of what the judges say."""
    return float(np.mean([judge(network) for judge in judges.values()]))


def right(network: nn.Module, data: LabelledImages, recipe: Recipe) -> np.ndarray:
    """Tell of each of N images whether the network classifies it rightly: (N,) bool."""
    predicted = predict_images(network, data.images, recipe.classes, recipe.preprocess).labels
    return np.array(predicted) == np.array(data.labels)


def _accuracy(network: nn.Module, data: LabelledImages, recipe: Recipe) -> float:
    return float(np.mean(right(network, data, recipe)))


def batchnorm_of(learnt: LabelledImages, recipe: Recipe) -> Callable[[nn.Module], None]:
    """Give what sets BatchNorm's statistics between the two ends; frozen they are the same."""
    if recipe.config.batchnorm == "frozen":
        return _leave
    order = np.random.default_rng(recipe.seed).permutation(len(learnt))
    images = taken(learnt.images, order[:_BATCHNORM_IMAGES])
    return partial(recompute_batchnorm, images=images, preprocess=recipe.preprocess)


def _leave(_: nn.Module) -> None:
    """Leave BatchNorm as it is."""
