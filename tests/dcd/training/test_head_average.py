import numpy as np

from dcd.training.head import LinearHead, fit_standardizer
from dcd.training.head_average import Compression, average_heads, fit_compression


def head(rng: np.random.Generator, dim: int) -> LinearHead:
    return LinearHead(
        ("a", "b", "c"),
        rng.normal(size=(3, dim)).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
    )


def logits(of: LinearHead, features: np.ndarray) -> np.ndarray:
    return features @ of.weight.T + of.bias


def test_the_logits_of_an_average_are_the_average_of_the_logits():
    rng = np.random.default_rng(0)
    heads, x = {name: head(rng, 5) for name in "xyz"}, rng.normal(size=(7, 5))
    mixed = average_heads(heads, {"x": 0.25, "z": 0.75})
    expected = 0.25 * logits(heads["x"], x) + 0.75 * logits(heads["z"], x)
    np.testing.assert_allclose(logits(mixed, x), expected, atol=1e-5)


def test_a_head_on_compressed_features_says_the_same_on_raw_ones():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(700, 600)) * rng.uniform(0.5, 3, 600) + 2).astype(np.float32)
    compression = fit_compression(x, fit_standardizer(x))
    assert compression.directions.shape == (600, 512)
    small = head(rng, 512)
    np.testing.assert_allclose(
        logits(compression.expand(small), x), logits(small, compression.compress(x)), atol=1e-2
    )


def test_few_dimensions_are_only_standardised():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(50, 4)).astype(np.float32)
    compressed = fit_compression(x, fit_standardizer(x)).compress(x)
    np.testing.assert_allclose(compressed.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(compressed.std(axis=0), 1, atol=1e-3)


def test_a_compression_comes_back_from_the_head_that_a_store_keeps():
    x = np.random.default_rng(0).normal(size=(700, 600)).astype(np.float32)
    compression = fit_compression(x, fit_standardizer(x))
    again = Compression.of_head(compression.standardizer, compression.as_head())
    np.testing.assert_array_equal(again.compress(x), compression.compress(x))
