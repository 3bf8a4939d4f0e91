"""Preprocess images as encoders expect them: from an image's pixels to the square that they see."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

_INTERPOLATION = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants its images. `mean` and `std` are per RGB channel, of values in 0–1."""

    input_size: int
    crop_pct: float
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def to_input(image: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Bring (H, W, 3) uint8 to (S, S, 3): shorter side to S / crop_pct, antialiased, centre crop.

    The same pixels as timm's evaluation transform, on uint8 instead of PIL images.
    Normalisation happens in the encoder's graph.
    """
    size = preprocess.input_size
    short = int(size / preprocess.crop_pct)
    image = _trim(image)
    height, width = image.shape[:2]
    scaled = (
        (short, short * width // height) if height <= width else (short * height // width, short)
    )
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    pixels = resize(pixels, list(scaled), _INTERPOLATION[preprocess.interpolation], antialias=True)
    top, left = (round((side - size) / 2) for side in scaled)
    cropped = pixels[:, top : top + size, left : left + size]
    return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())


def _trim(image: np.ndarray) -> np.ndarray:
    """The centre of a very long image: the crop never sees its ends, so they need no resizing."""
    height, width = image.shape[:2]
    keep = 4 * min(height, width)
    top, left = max(0, height - keep) // 2, max(0, width - keep) // 2
    return image[top : top + keep, left : left + keep]
