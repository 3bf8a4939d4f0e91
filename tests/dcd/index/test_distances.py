import numpy as np
import pytest

from dcd.index import distances as module
from dcd.index.distances import distance_bounds, distances


def vectors(n: int, dim: int, scale: float, seed: int) -> np.ndarray:
    """Numbers as float16 embeddings have them, far from the origin and near to each other."""
    rng = np.random.default_rng(seed)
    return (scale + rng.standard_normal((n, dim))).astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("scale", [0, 1, 1000])
def test_bounds_hold_the_exact_distance_and_are_close(scale: float):
    xq, xb = vectors(7, 33, scale, seed=0), vectors(50, 33, scale, seed=1)
    xb[:7] = xq  # on top of each other: what rounding alone would take for a distance
    lower, upper = distance_bounds(xq, xb)
    exact = ((xq[:, None] - xb[None]) ** 2).sum(axis=2)
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    assert (upper - lower).max() < 1e-6 * (1 + exact.max() + scale**2 * 33)


def test_distances_are_the_same_bits_however_many_pairs_are_held_at_once(monkeypatch):
    xq, xb = vectors(5, 64, 3, seed=2), vectors(40, 64, 3, seed=3)
    query, row = np.divmod(np.arange(200), 40)
    at_once = distances(xq, xb, query, row)
    monkeypatch.setattr(module, "_MAX_PAIR_BYTES", 8 * 64 * 3)
    assert (distances(xq, xb, query, row) == at_once).all()
    expected = np.sqrt(((xq[query] - xb[row]) ** 2).sum(axis=1))
    assert at_once == pytest.approx(expected, rel=1e-6)
