"""Bring encoded images into batches for training and prediction, on the device and normalised."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset

from dcd.images.decode import decode
from dcd.images.preprocess import Preprocess, to_input

Augmentation = Literal["none", "crop", "crop_flip", "rand_augment"]

# RandAugment (Cubuk et al. 2020): 2 operations of magnitude 9. At 10, which a random magnitude
# would reach, timm's posterize asks Pillow for 0 bits, and Pillow refuses.
_RAND_AUGMENT = "rand-m9-inc1"
_MIN_CROP_AREA = 0.6

# Processes that decode for a GPU, and how many batches make it worth to start one.
_MAX_WORKERS = 16
_BATCHES_A_WORKER = 4


class TrainingImages(Dataset[tuple[torch.Tensor, int]]):
    """Augmented (3, S, S) uint8 images with their index; the key (epoch, index) decides all."""

    def __init__(
        self,
        images: Sequence[bytes],
        preprocess: Preprocess,
        augmentation: Augmentation,
        seed: int,
    ):
        self.images, self.preprocess, self.seed = images, preprocess, seed
        self.augment = None if augmentation == "none" else _transform(augmentation, preprocess)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        image = decode(self.images[index])
        if self.augment is None:
            return _channels_first(to_input(image, self.preprocess)), index
        _seed_cpu(draw(self.seed, epoch, index))
        return torch.as_tensor(self.augment(Image.fromarray(image))), index


class EvaluationImages(Dataset[tuple[torch.Tensor, int]]):
    """(3, S, S) uint8 images with their index, as the encoder sees them."""

    def __init__(self, images: Sequence[bytes], preprocess: Preprocess):
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return _channels_first(to_input(decode(self.images[index]), self.preprocess)), index


def training_batches(
    data: TrainingImages, epoch: int, batch_size: int, first: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches (images, indices) of one epoch in random order, from batch `first` on.

    A short last batch is left out: batch normalisation needs company, and the next epoch's order
    leaves out others.
    """
    order = np.random.default_rng([data.seed, epoch]).permutation(len(data)).tolist()
    keys = [
        [(epoch, index) for index in order[start : start + batch_size]]
        for start in range(first * batch_size, len(order) - batch_size + 1, batch_size)
    ]
    return iter(_loader(data, keys, device))


def evaluation_batches(
    images: Sequence[bytes], preprocess: Preprocess, batch_size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield batches (B, 3, S, S) uint8 in the order of `images`."""
    data = EvaluationImages(images, preprocess)
    indices = range(len(images))
    keys = [
        list(indices[start : start + batch_size]) for start in range(0, len(images), batch_size)
    ]
    for pixels, _ in _loader(data, keys, device):
        yield pixels


def normalised(pixels: torch.Tensor, preprocess: Preprocess, device: torch.device) -> torch.Tensor:
    """Bring (B, 3, S, S) uint8 to float32 on the device, as the weights want it, channels last."""
    x = pixels.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
    mean = torch.tensor(preprocess.mean, device=device).view(3, 1, 1) * 255
    std = torch.tensor(preprocess.std, device=device).view(3, 1, 1) * 255
    return (x - mean) / std


def draw(*key: int) -> int:
    """Draw a 63-bit seed that depends on every part of the key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _loader(
    data: Dataset[tuple[torch.Tensor, int]],
    keys: list[list[Any]],
    device: torch.device,
) -> DataLoader[tuple[torch.Tensor, int]]:
    # On a CPU the network takes all cores anyway; a GPU waits for decoders.
    on_gpu = device.type == "cuda"
    workers = min(_MAX_WORKERS, os.cpu_count() or 1, len(keys) // _BATCHES_A_WORKER)
    workers = workers if on_gpu else 0
    return DataLoader(data, batch_sampler=keys, num_workers=workers, pin_memory=on_gpu)


def _transform(
    augmentation: Augmentation, preprocess: Preprocess
) -> Callable[[Image.Image], np.ndarray]:
    transform: Any = create_transform(
        preprocess.input_size,
        is_training=True,
        use_prefetcher=True,  # uint8 out: the device normalises
        scale=(_MIN_CROP_AREA, 1.0),
        hflip=0.0 if augmentation == "crop" else 0.5,
        color_jitter=0.0,
        auto_augment=_RAND_AUGMENT if augmentation == "rand_augment" else None,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
    )
    return transform


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def _seed_cpu(seed: int) -> None:
    """Set the random states that timm's augmentation draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
