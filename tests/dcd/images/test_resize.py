"""numpy resizes to torch's own bits: a rerun must embed what the first run would have."""

import subprocess
import sys

import numpy as np
import pytest

from dcd.images.resize import resized_by_numpy, resized_by_torch

_SIZES = [
    ((32, 32), (96, 96)),
    ((500, 375), (298, 224)),
    ((224, 224), (224, 224)),
    ((64, 500), (64, 97)),
    ((500, 64), (97, 64)),
    ((1, 1), (9, 13)),
    ((1, 700), (5, 8)),
    ((3000, 8), (7, 96)),
    ((701, 3), (97, 1)),
    ((97, 131), (1, 1)),
]


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Noise, black beside white (whose overshoot is cut off), and a slope."""
    rng = np.random.default_rng([height, width])
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    slope = np.add.outer(np.arange(height), np.arange(width))[..., None] + np.array([0, 40, 90])
    return [noise, (noise > 127).astype(np.uint8) * 255, (slope % 256).astype(np.uint8)]


@pytest.mark.parametrize(("size", "to"), _SIZES, ids=str)
def test_numpy_gives_the_bits_of_torch(size: tuple[int, int], to: tuple[int, int]):
    for picture in pictures(*size):
        expected = resized_by_torch(picture, *to, "bicubic")
        assert expected.shape == (*to, 3)
        np.testing.assert_array_equal(resized_by_numpy(picture, *to), expected)


def test_numpy_gives_the_bits_of_torch_for_any_size():
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = rng.integers(1, 260, 2)
        to = (int(rng.integers(1, 140)), int(rng.integers(1, 140)))
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        expected = resized_by_torch(picture, *to, "bicubic")
        np.testing.assert_array_equal(resized_by_numpy(picture, *to), expected, f"{size} {to}")


def test_few_pictures_are_resized_without_torch_and_many_with_it():
    code = """
import sys
import numpy as np
from dcd.images.resize import _FEW, resized
picture = np.zeros((20, 30, 3), np.uint8)
for _ in range(_FEW):
    resized(picture, 10, 15, "bicubic")
print("torch" in sys.modules)
resized(picture, 10, 15, "bicubic")
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True"]


def test_torch_does_not_warn_of_pictures_that_are_read_only():
    """It warns once a process, so this is one of its own."""
    code = (
        "import numpy as np; from dcd.images.resize import resized_by_torch; "
        "image = np.zeros((8, 8, 3), np.uint8); image.flags.writeable = False; "
        "print(resized_by_torch(image, 4, 4, 'bicubic').shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(4, 4, 3)\n", "")
