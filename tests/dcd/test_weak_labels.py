import numpy as np
import pyarrow as pa
import pytest
import torch

from dcd.agreement import fit_reference, neighbor_labels
from dcd.cells import gather_data
from dcd.index import pool_sample
from dcd.training_config import TrainingConfig
from dcd.weak_labels import doubt_of_picks
from tests.dcd.cell_case import CellCase

AGREEMENT = TrainingConfig(soft_labels="agreement")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CellCase:
    torch.set_num_threads(1)
    return CellCase(tmp_path_factory.mktemp("weak_labels"))


def test_a_pick_has_the_votes_of_its_neighbours_and_a_true_label_has_none(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    picks = data.picks.take(pa.array(np.arange(data.picks.num_rows)[::-1]))
    found = doubt_of_picks(case.store, case.index, picks, 3, data.classes, AGREEMENT)
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
    found = doubt_of_picks(case.store, case.index, data.picks, 0, one, AGREEMENT)
    assert set(np.unique(found.votes)) == {-1, 0}


def test_nobody_votes_unless_asked(case: CellCase):
    data = gather_data(case.store, case.plan("whole_pool"))
    found = doubt_of_picks(case.store, case.index, data.picks, 2, data.classes, TrainingConfig())
    assert found.votes.shape == (data.picks.num_rows + 2, 0)
    nothing = data.picks.slice(0, 0)
    assert (
        len(doubt_of_picks(case.store, case.index, nothing, 2, data.classes, AGREEMENT).weak) == 2
    )
