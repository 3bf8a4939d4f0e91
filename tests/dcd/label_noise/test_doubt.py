import numpy as np
import pyarrow as pa
import pytest
import torch

from dcd.cells.cell import gather_data
from dcd.config import TrainingConfig
from dcd.index.read import pool_sample
from dcd.label_noise.agreement import fit_reference, neighbor_labels
from dcd.label_noise.doubt import doubt_of_picks
from dcd.label_noise.pool_noise import pool_noise
from tests.dcd.cells.cell_case import CellCase

AGREEMENT = TrainingConfig(loss="cross_entropy", soft_labels="agreement")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CellCase:
    torch.set_num_threads(1)
    return CellCase(tmp_path_factory.mktemp("weak_labels"))


def test_a_pick_has_the_votes_of_its_neighbours_and_a_true_label_has_none(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    picks = data.picks.take(pa.array(np.arange(data.picks.num_rows)[::-1]))
    found = doubt_of_picks(
        case.store, case.index, picks, 3, data.splits["train"], data.classes, AGREEMENT
    )
    n = picks.num_rows
    assert found.weak.tolist() == [True] * n + [False] * 3
    assert (found.votes[n:] == -1).all()

    sample = pool_sample(case.store, case.index)
    reference = fit_reference(sample)
    row = sample["image_id"].to_pylist().index(picks["image_id"][0].as_py())
    expected = [
        data.classes.index(reference.classes[vote].as_py())
        for vote in neighbor_labels(reference, sample.slice(row, 1))[0]
        if vote >= 0 and reference.classes[vote].as_py() in data.classes
    ]
    assert sorted(vote for vote in found.votes[0].tolist() if vote >= 0) == sorted(expected)


def test_labels_that_the_model_does_not_know_do_not_vote(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    one = data.classes[:1]
    train = data.splits["train"]
    found = doubt_of_picks(case.store, case.index, data.picks, 0, train, one, AGREEMENT)
    assert set(np.unique(found.votes)) == {-1, 0}


def test_nobody_votes_unless_asked(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    train, plain = data.splits["train"], TrainingConfig(loss="cross_entropy")
    found = doubt_of_picks(case.store, case.index, data.picks, 2, train, data.classes, plain)
    assert found.votes.shape == (data.picks.num_rows + 2, 0)
    assert found.noise is None
    nothing = data.picks.slice(0, 0)
    found = doubt_of_picks(case.store, case.index, nothing, 2, train, data.classes, AGREEMENT)
    assert found.weak.tolist() == [False, False]


def test_the_forward_correction_knows_how_the_pool_is_wrong(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    train = data.splits["train"]
    config = TrainingConfig(loss="forward")
    found = doubt_of_picks(case.store, case.index, data.picks, 2, train, data.classes, config)
    expected = pool_noise(case.store, case.index, train, data.classes)
    assert found.noise is not None
    np.testing.assert_array_equal(found.noise, expected.matrix)
