"""Full retraining of a model on train + added images: hold out, fine-tune, ensemble."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from dcd.config import TrainingConfig
from dcd.images.preprocess import Preprocess
from dcd.training.checkpoints import Checkpoint
from dcd.training.ensembling import (
    CurvePoint,
    choose,
    ensemble,
    interpolation_curve,
    recompute_batchnorm,
)
from dcd.training.finetune import Progress, finetune, predict_images
from dcd.training.head import hold_out, loss_weights
from dcd.training.losses import LabelDoubt, joined

_BATCHNORM_IMAGES = 2048


@dataclass(frozen=True)
class LabelledImages:
    """N encoded images, their labels, and their weights in the loss: (N,) or None for all 1.

    doubt: of their labels; None: all are true.
    """

    images: Sequence[bytes]
    labels: Sequence[str]
    weight: np.ndarray | None = None
    doubt: LabelDoubt | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> "LabelledImages":
        """The images at these positions; weights and doubt are dropped."""
        rows: list[int] = indices.tolist()
        return LabelledImages([self.images[i] for i in rows], [self.labels[i] for i in rows])


@dataclass(frozen=True)
class RetrainedModel:
    """The retrained network. `curve` is empty unless alpha was chosen; alpha 1: no ensemble."""

    network: nn.Module
    alpha: float
    curve: tuple[CurvePoint, ...]


def retrain(
    original: Callable[[], nn.Module],
    train: LabelledImages,
    added: LabelledImages,
    debug_val: LabelledImages | None,
    classes: tuple[str, ...],
    preprocess: Preprocess,
    config: TrainingConfig,
    seed: int,
    *,
    original_saw_val: bool = False,
    shown: Mapping[str, LabelledImages] | None = None,
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
    end. `shown` splits are put on the curve and decide nothing. Raises what `finetune` raises.
    """
    is_val = hold_out(train.labels, config.val_share, seed)
    kept, val = train.take(np.flatnonzero(~is_val)), train.take(np.flatnonzero(is_val))
    added_weight = np.ones(len(added)) if added.weight is None else added.weight
    doubt = LabelDoubt.none(len(added)) if added.doubt is None else added.doubt
    images, labels = [*kept.images, *added.images], [*kept.labels, *added.labels]

    def accuracy_on(data: LabelledImages) -> Callable[[nn.Module], float]:
        return partial(_accuracy, data=data, classes=classes, preprocess=preprocess)

    judged = {"val": val, "debug_val": debug_val}
    judges = {name: accuracy_on(data) for name, data in judged.items() if data}

    finetuned = finetune(
        original(),
        images,
        labels,
        classes,
        preprocess,
        config,
        seed,
        sample_weight=loss_weights(labels, len(kept), added_weight, config),
        doubt=joined([LabelDoubt.none(len(kept)), doubt]),
        validate=(lambda net: float(np.mean([judge(net) for judge in judges.values()])))
        if config.patience is not None
        else None,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    if config.ensemble_alpha is None:
        return RetrainedModel(finetuned, 1.0, ())

    device = next(finetuned.parameters()).device
    before = original().to(device)
    sample = np.random.default_rng(seed).permutation(len(images))[:_BATCHNORM_IMAGES]
    recompute = partial(
        recompute_batchnorm, images=[images[i] for i in sample], preprocess=preprocess
    )
    if config.batchnorm == "frozen":  # the same at both ends
        recompute = _leave
    if config.ensemble_alpha != "choose":
        alpha, curve = config.ensemble_alpha, ()
    else:
        on_curve = judges | {name: accuracy_on(data) for name, data in (shown or {}).items()}
        curve = interpolation_curve(before, finetuned, recompute, on_curve)
        improve = "debug_val" if debug_val else "val"
        alpha = choose(curve, "val", improve, rival=1.0 if original_saw_val else 0.0).alpha
    return RetrainedModel(ensemble(before, finetuned, alpha, recompute), alpha, curve)


def _leave(_: nn.Module) -> None:
    """Leave BatchNorm as it is."""


def _accuracy(
    network: nn.Module, data: LabelledImages, classes: tuple[str, ...], preprocess: Preprocess
) -> float:
    predicted = predict_images(network, data.images, classes, preprocess).labels
    return float(np.mean(np.array(predicted) == np.array(data.labels)))
