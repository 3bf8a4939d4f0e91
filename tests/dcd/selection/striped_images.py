"""A task that a tiny network learns in seconds: stripes that run across or down, with noise."""

import io
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from dcd.images.preprocess import Preprocess

CLASSES = ("horizontal", "vertical")
PREPROCESS = Preprocess(32, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def striped_images(n: int, seed: int = 0, noise: float = 25) -> tuple[list[bytes], list[str]]:
    """n PNGs of 32 × 32 pixels, the classes in turn."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(n):
        pattern = np.where((np.arange(32) + rng.integers(8)) // 4 % 2, 190, 60)
        grey = np.broadcast_to(pattern, (32, 32)) if i % 2 else pattern[:, None].repeat(32, 1)
        pixels = np.clip(grey + rng.normal(0, noise, (32, 32)), 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        images.append(sink.getvalue())
        labels.append(CLASSES[i % 2])
    return images, labels


def tiny_network() -> Any:
    """A ResNet with dropout and the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=2, drop_rate=0.1)


def weights_of(network: torch.nn.Module) -> bytes:
    """All weights and buffers, to compare bit for bit."""
    return b"".join(t.cpu().numpy().tobytes() for t in network.state_dict().values())
