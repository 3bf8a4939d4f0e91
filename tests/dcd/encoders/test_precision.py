"""The choice of a precision by measurement."""

import numpy as np
import pytest

from dcd.encoders.precision import (
    Embed,
    Precision,
    cosines,
    fastest_within_tolerance,
    natural_images,
)
from dcd.errors import EncoderError


def _embed(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) - 100


def _noisy(relative_error: float) -> Embed:
    def embed(images: np.ndarray) -> np.ndarray:
        exact = _embed(images)
        noise = np.random.default_rng(0).normal(size=exact.shape)
        return exact + relative_error * np.abs(exact).mean() * noise

    return embed


def _overflows(images: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(images))[:, None] == 3, np.inf, _embed(images))


def _refused(_: np.ndarray) -> np.ndarray:
    raise EncoderError("no such precision")


@pytest.mark.parametrize(
    ("bf16", "mixed", "expected"),
    [
        (_noisy(0.01), _noisy(0.01), "bf16"),
        (_noisy(0.1), _noisy(0.01), "mixed"),
        (_noisy(0.1), _noisy(0.1), "fp32"),
        (_overflows, _noisy(0.01), "mixed"),
        (_noisy(0.1), _refused, "fp32"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_first_that_is_near_enough(bf16: Embed, mixed: Embed, expected: Precision) -> None:
    ways: dict[Precision, Embed] = {"fp32": _embed, "bf16": bf16, "mixed": mixed}
    assert fastest_within_tolerance(ways.__getitem__, ("bf16", "mixed"), 24) == expected


def test_cosines_of_rows() -> None:
    a = np.array([[1.0, 0], [1, 1], [0, 0], [0, 0]])
    b = np.array([[2.0, 0], [1, -1], [0, 0], [1, 0]])
    with np.errstate(invalid="ignore"):
        found = cosines(a, b)
    np.testing.assert_allclose(found[:3], [1, 0, 1])
    assert not found[3] >= 0.999


def test_images_have_the_statistics_of_photographs() -> None:
    images = natural_images(8, 64).astype(np.float64)
    neighbours = np.corrcoef(images[:, :, 1:].ravel(), images[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.8
    assert images.std(axis=(1, 2)).min() > 15
    assert 60 < images.mean() < 190
