"""Fine-tune a whole timm network, in the plain way: one loop, readable top to bottom."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderError
from dcd.images.preprocess import Preprocess
from dcd.store import keys
from dcd.training.batches import (
    TrainingImages,
    draw,
    evaluation_batches,
    normalised,
    training_batches,
)
from dcd.training.checkpoints import Checkpoint, resume, start, state
from dcd.training.depthwise import fast_depthwise_gradients
from dcd.training.head import class_indices
from dcd.training.losses import LabelDoubt
from dcd.training.predictions import Predictions, likeliest
from dcd.training.torch_losses import batch_loss

log = logging.getLogger(__name__)
_TELL_EVERY = 10  # steps: reading the loss makes a GPU wait

# Dropout and augmentation draw from the random state of the process, so one training at a time.
_random_state = threading.Lock()


@dataclass(frozen=True)
class Progress:
    """Where a training is. `epoch` counts from 1; `score` is the last validation's, if any."""

    step: int
    n_steps: int
    epoch: int
    n_epochs: int
    loss: float
    score: float | None
    images_per_s: float
    remaining_s: float


def finetune(
    network: nn.Module,
    images: Sequence[bytes],
    labels: Sequence[str],
    classes: tuple[str, ...],
    preprocess: Preprocess,
    config: TrainingConfig,
    seed: int,
    *,
    sample_weight: np.ndarray | None = None,
    doubt: LabelDoubt | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Train all weights of a timm network on encoded images; returns it in eval mode, on the
    device it was trained on.

    Every random draw is a function of `seed` and the step. So on the CPU the same input gives the
    same weights, bit for bit, also when the training was killed and goes on from `checkpoint`.
    The network given is changed.

    sample_weight: (N,) weights in the loss, by default 1. doubt: of the N labels; by default all
    are true, so that no image is left out and no label softened. validate: score of a network,
    higher is better, asked after every epoch; the best epoch's weights are returned, and
    `config.patience` epochs without a better one end the training.

    Raises BadImage, LabelError, DataError for fewer than two images, EncoderError if the network
    has not one output for each class, StoreError if the checkpoint is broken.
    """
    _check(network, images, labels, classes)
    device = torch_device(config)
    bf16 = _uses_bf16(config, device)
    doubt = LabelDoubt.none(len(labels)) if doubt is None else doubt
    losses_of = batch_loss(class_indices(labels, classes), doubt, config)
    weight = torch.ones(len(labels)) if sample_weight is None else _mean_one(sample_weight)
    data = TrainingImages(images, preprocess, config.augmentation, seed)
    batch_size = min(config.batch_size, len(images))
    steps_per_epoch = len(images) // batch_size
    n_steps = config.epochs * steps_per_epoch
    n_warmup = round(config.warmup_share * n_steps)

    run = start(network, config, device)
    noise = None if doubt.noise is None else doubt.noise.tolist()
    of_images = [list(labels), weight.tolist(), doubt.weak.tolist(), doubt.votes.tolist(), noise]
    identity = keys.digest(config, seed, list(classes), of_images)
    if checkpoint:
        resume(run, checkpoint, identity)
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())
    started = saved = time.monotonic()
    first_step = run.step

    with _own_random_state():
        while run.step < n_steps and not run.is_stuck(config.patience):
            epoch, i = divmod(run.step, steps_per_epoch)
            if i == 0 or run.step == first_step:
                batches = training_batches(data, epoch, batch_size, i, device)
            pixels, index = next(batches)
            torch.manual_seed(draw(seed, run.step))  # dropout
            training_mode(run.network, config)
            for group in run.optimizer.param_groups:
                scale = learning_rate_scale(run.step, n_steps, n_warmup)
                group["lr"] = config.learning_rate * scale * group.get("lr_scale", 1.0)

            with (
                torch.autocast(device.type, torch.bfloat16, enabled=bf16),
                fast_depthwise_gradients(enabled=device.type == "cpu"),
            ):
                logits = run.network(normalised(pixels, preprocess, device))
            losses = losses_of(logits.float(), index, epoch)
            loss = (losses * weight[index].to(device)).mean()
            loss.backward()
            if config.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(run.network.parameters(), config.max_grad_norm)
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.step += 1
            if run.ema is not None:
                run.ema.update(run.network, step=run.step)

            epoch_ended = i + 1 == steps_per_epoch
            if epoch_ended and validate is not None:
                run.note_score(validate(run.served.eval()))
            if checkpoint and time.monotonic() - saved >= config.checkpoint_every_s:
                checkpoint.save(state(run, identity))
                saved = time.monotonic()
            if on_progress and (epoch_ended or run.step % _TELL_EVERY == 0):
                per_step = (time.monotonic() - started) / (run.step - first_step)
                on_progress(
                    Progress(
                        step=run.step,
                        n_steps=n_steps,
                        epoch=epoch + 1,
                        n_epochs=config.epochs,
                        loss=loss.item(),
                        score=run.score,
                        images_per_s=batch_size / per_step,
                        remaining_s=per_step * (n_steps - run.step),
                    )
                )

    if run.step < n_steps:
        log.info("stopped early, after step %d of %d", run.step, n_steps)
    return run.best()


def training_mode(network: nn.Module, config: TrainingConfig) -> None:
    """Set a network to train, BatchNorm's statistics as `config.batchnorm` says."""
    network.train()
    if config.batchnorm == "frozen":
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def learning_rate_scale(step: int, n_steps: int, n_warmup: int) -> float:
    """Linear warm-up to 1, then a half cosine to 0 (Loshchilov & Hutter 2017, without restarts)."""
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup)))


@torch.inference_mode()
def predict_images(
    network: nn.Module,
    images: Sequence[bytes],
    classes: tuple[str, ...],
    preprocess: Preprocess,
    batch_size: int = 64,
) -> Predictions:
    """Predictions for encoded images, preprocessed as in evaluation. Raises BadImage.

    Runs where the network is, in fp32.
    """
    network.eval()
    device = next(network.parameters()).device
    rows = [np.zeros((0, len(classes)), np.float32)]
    for pixels in evaluation_batches(images, preprocess, batch_size, device):
        logits = network(normalised(pixels, preprocess, device))
        rows.append(logits.softmax(dim=1).cpu().numpy())
    return likeliest(np.concatenate(rows), classes)


def torch_device(config: TrainingConfig) -> torch.device:
    """The device to train on. Raises EncoderError if the config asks for one that is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EncoderError("training.device is cuda, but torch finds no CUDA device; set auto")
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _check(
    network: nn.Module, images: Sequence[bytes], labels: Sequence[str], classes: tuple[str, ...]
) -> None:
    if network.num_classes != len(classes):
        raise EncoderError(
            f"fine-tuning: the network has {network.num_classes} outputs for "
            f"{len(classes)} classes; build it with num_classes={len(classes)}"
        )
    if len(images) < 2 or len(images) != len(labels):
        raise DataError(
            f"fine-tuning: expected at least 2 images and as many labels, found {len(images)} "
            f"images and {len(labels)} labels"
        )


def _mean_one(weight: np.ndarray) -> torch.Tensor:
    """Weights of mean 1, so that the learning rate means the same with and without them."""
    return torch.from_numpy((weight / weight.mean()).astype(np.float32))


def _uses_bf16(config: TrainingConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


@contextmanager
def _own_random_state() -> Iterator[None]:
    """The process's random state for us alone, and as it was when we are done."""
    with _random_state, torch.random.fork_rng(range(torch.cuda.device_count())):
        python, numpy = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
