"""Vectors in two dimensions: the same ones in the same places, what is alike together."""

import numpy as np
import pytest

from dcd.config import MapMethod
from dcd.maps.layout import has_tsne, lay_out

METHODS: tuple[MapMethod, ...] = ("pca", "tsne")


def clusters(n_each: int = 40, dim: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(3, dim)) * 4
    return np.repeat(middles, n_each, axis=0).astype(np.float32) + rng.normal(
        size=(3 * n_each, dim)
    ).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_alike_lies_together_in_the_same_places_each_time(method):
    found = lay_out(clusters(), method)
    assert found.method == method
    assert found.places.dtype == np.float32
    assert np.abs(found.places).max() == pytest.approx(1)
    groups = found.places.reshape(3, -1, 2)
    middles = groups.mean(axis=1)
    spread = np.linalg.norm(groups - middles[:, None], axis=2).mean()
    between = np.linalg.norm(middles - np.roll(middles, 1, axis=0), axis=1).min()
    assert between > 3 * spread
    assert found.places.tobytes() == lay_out(clusters(), method).places.tobytes()


def test_pca_says_how_much_it_shows():
    flat = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) @ np.ones(
        (2, 8), np.float32
    )
    explained = lay_out(flat, "pca").explained
    assert explained == pytest.approx(1, abs=1e-3)
    assert 0 < (lay_out(clusters(), "pca").explained or 0) < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "dim"), [(1, 8), (2, 8), (4, 1), (3, 70), (6, 2)])
def test_few_points_and_few_dimensions_have_places_too(method, n, dim):
    vectors = np.random.default_rng(1).normal(size=(n, dim)).astype(np.float32)
    places = lay_out(vectors, method).places
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()


def test_equal_vectors_lie_in_one_place():
    assert lay_out(np.ones((4, 8), np.float32), "pca").places.tolist() == [[0, 0]] * 4


def test_the_library_is_there_where_tests_run():
    assert has_tsne()
