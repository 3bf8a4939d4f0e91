import numpy as np
import pytest

from dcd.label_noise.noise_matrix import NoiseMatrix, RightShare
from dcd.label_noise.pool_noise import noise_of, noise_table, pool_noise, right_share
from dcd.store import keys
from tests.dcd.cells.cell_case import CellCase


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CellCase:
    return CellCase(tmp_path_factory.mktemp("pool_noise"))


def test_the_noise_is_estimated_once_and_kept(case: CellCase):
    train = case.splits["train"]
    labels = case.store.read_table(keys.split(train.id), ["label"])["label"].to_pylist()
    classes = tuple(sorted(set(labels)))
    assert right_share(case.store, case.index, train) is None
    first = pool_noise(case.store, case.index, train, classes)
    (key,) = case.store.keys_under("noise")
    again = pool_noise(case.store, case.index, train, classes)
    assert case.store.keys_under("noise") == [key]
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert first.right == again.right
    assert right_share(case.store, case.index, train) == first.right
    assert 0 < first.right.low <= first.right.value <= first.right.high <= 1


def test_a_matrix_survives_its_table():
    matrix = np.random.default_rng(0).dirichlet(np.ones(3), 3).astype(np.float32)
    noise = NoiseMatrix(("a", "b", "c"), matrix, RightShare(0.75, 0.7, 0.8))
    table = noise_table(noise)
    assert table["true_label"].to_pylist()[:4] == ["a", "a", "a", "b"]
    assert table["label"].to_pylist()[:4] == ["a", "b", "c", "a"]
    found = noise_of(table, noise.classes, noise.right)
    assert found.matrix.tobytes() == matrix.tobytes()
