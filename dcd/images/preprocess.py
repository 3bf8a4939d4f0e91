"""Preprocess images as encoders expect them: from an image's pixels to the square that they see."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from dcd.images.decode import jpegs_need_no_torch
from dcd.images.resize import Interpolation, resized, resized_by_numpy, resized_by_torch

CropMode = Literal["center", "squash", "border"]
CROP_MODES: tuple[CropMode, ...] = ("center", "squash", "border")


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants its images. `mean` and `std` are per RGB channel, of values in 0–1.

    crop_mode: timm's. center: the shorter side fits, what is longer is cut; squash: both sides fit,
    the aspect is lost; border: the longer side fits, the rest is padded with the mean.
    """

    input_size: int
    crop_pct: float
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: CropMode = "center"

    def identity(self) -> dict[str, object]:
        """Say what tells it from others, for digests; as before there were other modes."""
        fields = asdict(self)
        if self.crop_mode == "center":
            del fields["crop_mode"]
        return fields


def crop_mode_of(cfg: Mapping[str, object]) -> CropMode:
    """Take the mode from a pretrained configuration of timm; center where it names none."""
    known: dict[object, CropMode] = {mode: mode for mode in CROP_MODES}
    return known.get(cfg.get("crop_mode"), "center")


def to_input(image: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Bring (H, W, 3) uint8 to (S, S, 3): resized to S / crop_pct, antialiased, centre crop.

    The same pixels as timm's evaluation transform, on uint8 instead of PIL images.
    Normalisation happens in the encoder's graph.
    """
    size = preprocess.input_size
    side = int(size / preprocess.crop_pct)
    if preprocess.crop_mode == "center":
        image = _trim(image)
    height, width = image.shape[:2]
    scaled = _scaled(height, width, side, preprocess.crop_mode)
    pixels = resized(image, *scaled, preprocess.interpolation)
    if preprocess.crop_mode == "border":
        pixels = _padded(pixels, size, preprocess.mean)
    top, left = (round((n - size) / 2) for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def pixels_need_no_torch() -> bool:
    """Tell whether a few pictures get here, without torch, the very pixels that it would give.

    Tried on a drawn picture: decoded by Pillow, resized by numpy (`dcd.images.resize`).
    """
    drawn = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    return jpegs_need_no_torch(drawn) and all(
        np.array_equal(resized_by_numpy(drawn, *to), resized_by_torch(drawn, *to, "bicubic"))
        for to in ((61, 83), (97, 40), (150, 200))
    )


def _scaled(height: int, width: int, side: int, crop_mode: CropMode) -> tuple[int, int]:
    """Height and width after resizing."""
    if crop_mode == "squash":
        return side, side
    if crop_mode == "border":
        ratio = max(height, width) / side
        return max(1, round(height / ratio)), max(1, round(width / ratio))
    if height <= width:
        return side, side * width // height
    return side * height // width, side


def _padded(pixels: np.ndarray, size: int, mean: tuple[float, float, float]) -> np.ndarray:
    """At least (size, size, 3), the picture in the middle of the mean colour."""
    height, width, _ = pixels.shape
    left, top = (max(0, size - n) // 2 for n in (width, height))
    canvas = np.empty((max(height, size), max(width, size), 3), np.uint8)
    canvas[:] = [round(255 * v) for v in mean]
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _trim(image: np.ndarray) -> np.ndarray:
    """The centre of a very long image: the crop never sees its ends, so they need no resizing."""
    height, width = image.shape[:2]
    keep = 4 * min(height, width)
    top, left = max(0, height - keep) // 2, max(0, width - keep) // 2
    return image[top : top + keep, left : left + keep]
