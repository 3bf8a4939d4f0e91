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
from dcd.training.checkpoints import Checkpoint, TrainingRun, resume, start, state
from dcd.training.data import LabelledImages, Progress, Recipe
from dcd.training.depthwise import fast_depthwise_gradients
from dcd.training.head import Predictions, class_indices, likeliest
from dcd.training.losses import LabelDoubt
from dcd.training.torch_losses import batch_loss

log = logging.getLogger(__name__)
_TELL_EVERY = 10  # steps: reading the loss makes a GPU wait

# Dropout and augmentation draw from the random state of the process, so one training at a time.
_random_state = threading.Lock()


@dataclass(frozen=True)
class Schedule:
    """How many steps a training takes, and how its learning rate goes."""

    batch_size: int
    steps_per_epoch: int
    n_epochs: int
    n_warmup: int

    @classmethod
    def of(cls, n_images: int, config: TrainingConfig) -> "Schedule":
        """Plan the training of so many images, of which the last incomplete batch is left out."""
        batch_size = min(config.batch_size, n_images)
        per_epoch = n_images // batch_size
        n_warmup = round(config.warmup_share * config.epochs * per_epoch)
        return cls(batch_size, per_epoch, config.epochs, n_warmup)

    @property
    def n_steps(self) -> int:
        return self.n_epochs * self.steps_per_epoch

    def learning_rate_scale(self, step: int) -> float:
        """Give the share of the full learning rate at a step."""
        return learning_rate_scale(step, self.n_steps, self.n_warmup)


class Clock:
    """Times a training from the step on which this process began it or took it up."""

    def __init__(self, schedule: Schedule, first_step: int):
        self.first_step = first_step
        self._schedule = schedule
        self._started = self._saved = time.monotonic()

    def is_save_due(self, every_s: float) -> bool:
        """Tell whether so much time has passed since the last save; if so it begins anew."""
        is_due = time.monotonic() - self._saved >= every_s
        if is_due:
            self._saved = time.monotonic()
        return is_due

    def progress(self, run: TrainingRun, loss: float) -> Progress:
        """Say where the run is after its latest step, which had this loss."""
        plan = self._schedule
        per_step = (time.monotonic() - self._started) / (run.step - self.first_step)
        return Progress(
            step=run.step,
            n_steps=plan.n_steps,
            epoch=(run.step - 1) // plan.steps_per_epoch + 1,
            n_epochs=plan.n_epochs,
            loss=loss,
            score=run.score,
            images_per_s=plan.batch_size / per_step,
            remaining_s=per_step * (plan.n_steps - run.step),
        )


def finetune(
    network: nn.Module,
    data: LabelledImages,
    recipe: Recipe,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Train all weights of a timm network; returns it in eval mode, on the device it trained on.

    Every random draw is a function of the seed and the step. So on the CPU the same input gives the
    same weights, bit for bit, also when the training was killed and goes on from `checkpoint`.
    The network given is changed. validate: score of a network, higher is better, asked after every
    epoch; the best epoch's weights are returned, and `patience` epochs without a better one end it.
    Raises BadImage, LabelError, DataError for fewer than two images, EncoderError if the network
    has not one output for each class, StoreError if the checkpoint is broken.
    """
    _check(network, data, recipe.classes)
    config, device = recipe.config, torch_device(recipe.config)
    weight, doubt = _loss_weight(data), data.doubt or LabelDoubt.none(len(data))
    losses_of = batch_loss(class_indices(data.labels, recipe.classes), doubt, config)
    images = TrainingImages(data.images, recipe.preprocess, config.augmentation, recipe.seed)
    schedule = Schedule.of(len(data), config)

    run = start(network, config, device)
    identity = _identity(data.labels, weight, doubt, recipe)
    if checkpoint:
        resume(run, checkpoint, identity)
    clock = Clock(schedule, run.step)

    # Longer than other functions, so that the whole loop stands in one place.
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())

    with _own_random_state():
        while run.step < schedule.n_steps and not run.is_stuck(config.patience):
            epoch, i = divmod(run.step, schedule.steps_per_epoch)
            if i == 0 or run.step == clock.first_step:
                batches = training_batches(images, epoch, schedule.batch_size, i, device)
            pixels, index = next(batches)
            torch.manual_seed(draw(recipe.seed, run.step))  # dropout
            training_mode(run.network, config)
            run.set_learning_rate(config.learning_rate * schedule.learning_rate_scale(run.step))

            with _forward_mode(device, config):
                logits = run.network(normalised(pixels, recipe.preprocess, device))
            losses = losses_of(logits.float(), index, epoch)
            loss = (losses * weight[index].to(device)).mean()
            loss.backward()
            run.take_step(config.max_grad_norm)

            epoch_ended = i + 1 == schedule.steps_per_epoch
            if epoch_ended and validate is not None:
                run.note_score(validate(run.served.eval()))
            if checkpoint and clock.is_save_due(config.checkpoint_every_s):
                checkpoint.save(state(run, identity))
            if on_progress and (epoch_ended or run.step % _TELL_EVERY == 0):
                on_progress(clock.progress(run, loss.item()))

    # What comes after a training may be killed too.
    if checkpoint and run.step > clock.first_step:
        checkpoint.save(state(run, identity))
    if run.step < schedule.n_steps:
        log.info("stopped early, after step %d of %d", run.step, schedule.n_steps)
    return run.best()


def training_mode(network: nn.Module, config: TrainingConfig) -> None:
    """Set a network to train, BatchNorm's statistics as `config.batchnorm` says."""
    network.train()
    if config.batchnorm == "frozen":
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def learning_rate_scale(step: int, n_steps: int, n_warmup: int) -> float:
    """Warm up linearly to 1, then follow half a cosine to 0.

    Source: Loshchilov & Hutter 2017, without restarts.
    """
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup)))


def predict_images(
    network: nn.Module,
    images: Sequence[bytes],
    classes: tuple[str, ...],
    preprocess: Preprocess,
    batch_size: int = 64,
) -> Predictions:
    """Predict for encoded images, preprocessed as in evaluation. Raises BadImage.

    Runs where the network is, in fp32.
    """
    logits = logits_of_images(network, images, len(classes), preprocess, batch_size)
    return likeliest(torch.from_numpy(logits).softmax(dim=1).numpy(), classes)


@torch.inference_mode()
def logits_of_images(
    network: nn.Module,
    images: Sequence[bytes],
    n_classes: int,
    preprocess: Preprocess,
    batch_size: int = 64,
) -> np.ndarray:
    """Give the logits (N, C) float32 that `predict_images` goes by. Raises BadImage."""
    network.eval()
    device = next(network.parameters()).device
    rows = [np.zeros((0, n_classes), np.float32)]
    for pixels in evaluation_batches(images, preprocess, batch_size, device):
        rows.append(network(normalised(pixels, preprocess, device)).float().cpu().numpy())
    return np.concatenate(rows)


def torch_device(config: TrainingConfig) -> torch.device:
    """Choose the device to train on. Raises EncoderError if the config asks for one not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EncoderError("training.device is cuda, but torch finds no CUDA device; set auto")
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _check(network: nn.Module, data: LabelledImages, classes: tuple[str, ...]) -> None:
    if network.num_classes != len(classes):
        raise EncoderError(
            f"fine-tuning: the network has {network.num_classes} outputs for "
            f"{len(classes)} classes; build it with num_classes={len(classes)}"
        )
    if len(data) < 2 or len(data) != len(data.labels):
        raise DataError(
            f"fine-tuning: expected at least 2 images and as many labels, found {len(data)} "
            f"images and {len(data.labels)} labels"
        )


def _loss_weight(data: LabelledImages) -> torch.Tensor:
    """Weights of mean 1, so that the learning rate means the same with and without them."""
    if data.weight is None:
        return torch.ones(len(data))
    return torch.from_numpy((data.weight / data.weight.mean()).astype(np.float32))


def _identity(
    labels: Sequence[str], weight: torch.Tensor, doubt: LabelDoubt, recipe: Recipe
) -> str:
    """Digest of what decides the weights; the images, which are large, stand behind the labels."""
    noise = None if doubt.noise is None else doubt.noise.tolist()
    of_images = [list(labels), weight.tolist(), doubt.weak.tolist(), doubt.votes.tolist(), noise]
    return keys.digest(recipe.config, recipe.seed, list(recipe.classes), of_images)


@contextmanager
def _forward_mode(device: torch.device, config: TrainingConfig) -> Iterator[None]:
    bf16 = _uses_bf16(config, device)
    with (
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        fast_depthwise_gradients(enabled=device.type == "cpu"),
    ):
        yield


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
