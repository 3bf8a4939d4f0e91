"""Which images people are asked to look at, and that a plan opens wherever a selection does."""

import numpy as np
import pyarrow.compute as pc
import pytest

from dcd.errors import DataError
from dcd.reviews.decisions import Decision, record
from dcd.selection.review_plan import choose_images, plan_review
from dcd.serve.review_desk import desk_named
from dcd.store import keys
from tests.dcd.cells.cell_case import CellCase


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> CellCase:
    return CellCase(tmp_path_factory.mktemp("plan"))


def test_each_failure_in_turn_asks_for_the_nearest_that_is_left():
    near, far = np.linspace(1, 2, 30), np.linspace(10, 20, 30)
    distances = np.full((60, 2), 100.0)
    distances[:30, 0], distances[30:, 1] = near, far
    chosen = choose_images(distances, 10)
    assert sorted(chosen.tolist()) == [*range(5), *range(30, 35)]
    assert set(chosen[:2].tolist()) == {0, 30}


def test_an_image_near_to_several_failures_is_asked_for_once():
    distances = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 2.5], [3.0, 2.0, 2.4], [9.0, 9.0, 9.0]])
    assert sorted(choose_images(distances, 3).tolist()) == [0, 1, 2]
    assert sorted(choose_images(distances, 9).tolist()) == [0, 1, 2, 3]
    assert choose_images(distances, 0).tolist() == []


def test_fewer_images_than_failures_are_of_different_failures():
    distances = np.random.default_rng(0).uniform(5, 9, (200, 40))
    distances[np.arange(40), np.arange(40)] = 1.0
    chosen = choose_images(distances, 10)
    assert len(set(chosen.tolist())) == 10
    assert (chosen < 40).all()


def test_a_plan_opens_as_a_selection_with_the_failures_true_labels(case: CellCase):
    plan = plan_review(case.store, case.index, case.splits, case.selection, 10)
    assert plan.n_images == 10
    assert plan.n_decided == 0
    desk = desk_named(case.store, plan.id, case.config)
    assert len(desk.candidates) == 10
    assert desk.title == f"review plan {plan.id}"
    labels = case.store.read_table(keys.split(case.splits["error_sample"].id))
    truth = dict(zip(labels["image_id"].to_pylist(), labels["label"].to_pylist(), strict=True))
    assert all(truth[one.image_id] == one.label for one in desk.failures)
    rows = case.store.read_table(keys.selection_picks(plan.id))
    known = set(pc.unique(labels["content_hash"]).to_pylist())
    assert not known & {c.content_hash for c in desk.candidates}
    assert rows["min_distance"].null_count == 0
    again = plan_review(case.store, case.index, case.splits, case.selection, 10)
    assert again == plan


def test_what_somebody_decided_about_is_asked_no_more(case: CellCase):
    before = plan_review(case.store, case.index, case.splits, case.selection, 5)
    desk = desk_named(case.store, before.id, case.config)
    one = desk.candidates[0]
    said = Decision("1" * 8, "ann", desk.pool, one.image_id, one.content_hash, one.label, "accept")
    record(case.store, [said])
    after = plan_review(case.store, case.index, case.splits, case.selection, 5)
    assert after.n_decided == 1
    planned = desk_named(case.store, after.id, case.config)
    assert one.content_hash not in {c.content_hash for c in planned.candidates}
    everything = plan_review(case.store, case.index, case.splits, case.selection, 10_000)
    assert 5 < everything.n_images <= everything.n_candidates
    rest = desk_named(case.store, everything.id, case.config).candidates
    record(
        case.store,
        [
            Decision(f"{n:08d}", "ann", desk.pool, c.image_id, c.content_hash, c.label, "skip")
            for n, c in enumerate(rest)
        ],
    )
    if everything.n_images == everything.n_candidates:
        with pytest.raises(DataError, match="nobody decided"):
            plan_review(case.store, case.index, case.splits, case.selection, 5)
