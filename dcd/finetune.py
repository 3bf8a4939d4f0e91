"""Fine-tuning of a whole timm network, in the plain way: one loop, readable top to bottom."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderError
from dcd.evaluation import Predicted, likeliest
from dcd.images import Preprocess, decode, to_input
from dcd.training import class_indices


@dataclass(frozen=True)
class Epoch:
    """Progress after an epoch: mean training loss, speed and the estimated seconds left."""

    epoch: int
    n_epochs: int
    train_loss: float
    images_per_s: float
    remaining_s: float


# Dropout and augmentation draw from the random state of the process, so one training at a time.
_random_state = threading.Lock()


def finetune(
    network: nn.Module,
    images: Sequence[bytes],
    labels: Sequence[str],
    classes: tuple[str, ...],
    preprocess: Preprocess,
    config: TrainingConfig,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> nn.Module:
    """Train all weights of a timm network on encoded images; returns it in eval mode on the CPU.

    Every random draw is a function of `seed` and the step, so on the CPU the same input gives the
    same weights. The network is changed in place. Raises BadImage, LabelError, DataError if fewer
    than two images, EncoderError if the network has not one output for each class.
    """
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
    device = _device()
    target = torch.from_numpy(class_indices(labels, classes))
    data = _TrainingImages(images, target, preprocess, config, seed)
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        network, "adamw", lr=config.learning_rate, weight_decay=config.weight_decay
    )
    batch_size = min(config.batch_size, len(images))
    n_steps = len(images) // batch_size
    started = time.perf_counter()
    with _random_state:
        for epoch in range(config.epochs):
            network.train()
            losses = []
            for i, (pixels, y) in enumerate(_batches(data, epoch, batch_size, device)):
                step = epoch * n_steps + i
                torch.manual_seed(_draw(seed, step))
                for group in optimizer.param_groups:
                    scale = learning_rate_scale(step, config.epochs * n_steps, n_steps)
                    group["lr"] = config.learning_rate * scale
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    logits = network(_normalised(pixels, preprocess, device))
                    loss = cross_entropy(logits.float(), y.to(device))
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
            if on_epoch:
                elapsed = time.perf_counter() - started
                on_epoch(
                    Epoch(
                        epoch + 1,
                        config.epochs,
                        float(torch.stack(losses).mean()),
                        (epoch + 1) * n_steps * batch_size / elapsed,
                        elapsed / (epoch + 1) * (config.epochs - epoch - 1),
                    )
                )
    return network.cpu().eval()


def learning_rate_scale(step: int, n_steps: int, n_warmup: int) -> float:
    """Linear warm-up to 1, then a half cosine to 0 (Loshchilov & Hutter 2017, without restarts)."""
    n_warmup = min(n_warmup, n_steps // 5)
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
) -> Predicted:
    """Predictions for encoded images, with the preprocessing of evaluation. Raises BadImage."""
    device = _device()
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    rows = [np.zeros((0, len(classes)), np.float32)]
    for start in range(0, len(images), batch_size):
        batch = [to_input(decode(data), preprocess) for data in images[start : start + batch_size]]
        pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
        rows.append(network(_normalised(pixels, preprocess, device)).softmax(1).cpu().numpy())
    network.cpu()
    return likeliest(np.concatenate(rows), classes)


class _TrainingImages(Dataset):
    """Augmented uint8 images, keyed by (epoch, index): the key alone decides the augmentation."""

    def __init__(
        self,
        images: Sequence[bytes],
        target: torch.Tensor,
        preprocess: Preprocess,
        config: TrainingConfig,
        seed: int,
    ):
        self.images, self.target, self.seed = images, target, seed
        transform: Any = create_transform(
            preprocess.input_size,
            is_training=True,
            use_prefetcher=True,  # uint8 out: normalising happens on the device
            scale=(0.6, 1.0),
            color_jitter=0.0,
            interpolation=preprocess.interpolation,
        )
        self.augment: Callable[[Image.Image], np.ndarray] = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = key
        draw = _draw(self.seed, epoch, index)
        random.seed(draw)
        np.random.seed(draw % 2**32)
        torch.default_generator.manual_seed(draw)
        image = Image.fromarray(decode(self.images[index]))
        return torch.as_tensor(np.asarray(self.augment(image))), self.target[index]


def _batches(
    data: _TrainingImages, epoch: int, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch in random order; a short last batch is left out (other images each epoch)."""
    order = np.random.default_rng([data.seed, epoch]).permutation(len(data)).tolist()
    keys = [
        [(epoch, index) for index in order[start : start + batch_size]]
        for start in range(0, len(order) - batch_size + 1, batch_size)
    ]
    on_gpu = device.type == "cuda"
    return iter(
        DataLoader(data, batch_sampler=keys, num_workers=8 if on_gpu else 0, pin_memory=on_gpu)
    )


def _normalised(pixels: torch.Tensor, preprocess: Preprocess, device: torch.device) -> torch.Tensor:
    x = pixels.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
    mean = torch.tensor(preprocess.mean, device=device).view(3, 1, 1) * 255
    std = torch.tensor(preprocess.std, device=device).view(3, 1, 1) * 255
    return (x - mean) / std


def _draw(*key: int) -> int:
    """A seed that depends on all parts of the key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
