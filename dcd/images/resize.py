"""Resize 8-bit pictures, antialiased: by torch, or to the same bits by numpy.

torch resizes bytes in integers: weights of 16 bits, one axis after the other, each rounded to
bytes. numpy does the same sums here, thirty times as slowly. But it is there at once, and torch
takes seconds to import: for the few pictures of a rerun that is most of the work.
"""

import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Literal

import numpy as np

Interpolation = Literal["bilinear", "bicubic"]
_FEW = 256  # pictures that numpy resizes in the time of importing torch
_n_asked = count()
_SUPPORT = 2.0  # of the bicubic kernel, in pixels of the coarser side
_SHARPNESS = -0.5  # Keys' a; torch takes another one where it does not antialias
_MAX_WEIGHT, _MAX_PRECISION = 2**15, 22

# Decoded pictures are read-only, and resizing writes to none of them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)


def resized(image: np.ndarray, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (height, width, 3) uint8.

    By torch where that is loaded, for many pictures, and for bilinear, of which torch's way depends
    on the machine.
    """
    few = next(_n_asked) < _FEW
    if interpolation == "bilinear" or "torch" in sys.modules or not few:
        return resized_by_torch(image, height, width, interpolation)
    return resized_by_numpy(image, height, width)


def resized_by_torch(
    image: np.ndarray, height: int, width: int, interpolation: Interpolation
) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (height, width, 3) uint8 as torchvision does."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    mode = InterpolationMode(interpolation)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return resize(pixels, [height, width], mode, antialias=True).permute(1, 2, 0).numpy()


def resized_by_numpy(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (height, width, 3) uint8, bicubic, to torch's own bits."""
    wide = _along_columns(image, width)
    return _along_columns(wide.transpose(1, 0, 2), height).transpose(1, 0, 2)


def _along_columns(image: np.ndarray, n_out: int) -> np.ndarray:
    """Resize the second axis of (R, n, 3) uint8 to n_out."""
    n_in = image.shape[1]
    if n_in == n_out:
        return image
    kernel = _kernel(n_in, n_out)
    # As floats, in which sums below 2^53 are exact, a product goes through BLAS.
    columns = np.ascontiguousarray(image.transpose(1, 0, 2), np.float64).reshape(n_in, -1)
    out = np.empty((n_out, columns.shape[1]), np.uint8)
    half = 1 << (kernel.precision - 1)
    for row, start, weights in zip(out, kernel.starts, kernel.weights, strict=True):
        sums = (weights @ columns[start : start + len(weights)]).astype(np.int64)
        row[:] = np.clip((sums + half) >> kernel.precision, 0, 255)
    return out.reshape(n_out, image.shape[0], image.shape[2]).transpose(1, 0, 2)


@dataclass(frozen=True)
class _Kernel:
    """The first input of every output, and its weights times 2^precision, whole numbers."""

    starts: list[int]
    weights: list[np.ndarray]
    precision: int


@lru_cache(maxsize=64)
def _kernel(n_in: int, n_out: int) -> _Kernel:
    """Compute weights as PyTorch 2 does for uint8 (aten/native/cpu/UpSampleKernel.cpp)."""
    scale = n_in / n_out
    support, inverse = (_SUPPORT * scale, 1 / scale) if scale >= 1 else (_SUPPORT, 1.0)
    centres = scale * (np.arange(n_out) + 0.5)
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + support + 0.5).astype(np.int64), n_in) - starts
    at = np.arange(counts.max())
    weights = _bicubic(np.abs((at + starts[:, None] - centres[:, None] + 0.5) * inverse))
    weights[at >= counts[:, None]] = 0
    # One after the other, as there: another order rounds otherwise.
    totals = np.cumsum(weights, axis=1)[:, -1:]
    weights /= totals
    most, precision = weights.max(), 0
    while precision < _MAX_PRECISION and int(0.5 + most * 2 ** (precision + 1)) < _MAX_WEIGHT:
        precision += 1
    scaled = weights * 2**precision
    whole = np.trunc(np.where(scaled < 0, scaled - 0.5, scaled + 0.5))
    kept = [row[:count].copy() for row, count in zip(whole, counts, strict=True)]
    return _Kernel(starts.tolist(), kept, precision)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """The kernel of Keys (1981) at distances x ≥ 0."""
    a = _SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
