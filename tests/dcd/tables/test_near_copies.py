import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from dcd.tables import near_copies
from dcd.tables.near_copies import copy_groups
from dcd.tables.vectors import unit_length


def chains(rng: np.random.Generator) -> np.ndarray:
    """300 pictures, a third of them beside another at a distance around 0.15."""
    base = unit_length(rng.normal(size=(200, 300)).astype(np.float32))
    noise = rng.normal(size=(100, 300)).astype(np.float32) * 0.15 / 300**0.5
    return unit_length(np.concatenate([base, base[rng.integers(60, size=100)] + noise]))


@pytest.mark.parametrize("few_rows", [4000, 0])
@pytest.mark.parametrize("block_bytes", [2**26, 2**13])
def test_groups_are_those_of_all_pairs(
    block_bytes: int, few_rows: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(near_copies, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(near_copies, "_FEW_ROWS", few_rows)
    units = chains(np.random.default_rng(0))
    near = np.linalg.norm(units[:, None] - units[None], axis=2) < 0.15
    _, expected = connected_components(near, directed=False)
    found = copy_groups(units, 0.15)
    assert len(np.unique(expected)) < 290
    assert (found[:, None] == found[None]).tolist() == (
        expected[:, None] == expected[None]
    ).tolist()


def test_no_distance_leaves_every_image_alone():
    units = np.ones((3, 1), np.float32)
    assert len(np.unique(copy_groups(units, 0.0))) == 3


def test_thousands_of_equal_vectors_are_one_group():
    units = np.tile(unit_length(np.ones((1, 64), np.float32)), (2000, 1))
    assert len(np.unique(copy_groups(units, 0.15))) == 1
