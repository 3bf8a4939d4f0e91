from dataclasses import replace

import numpy as np
import pytest

from dcd.cells.candidates import Candidates, training_set, weights_of_all
from dcd.cells.lines import BASELINES
from dcd.config import TrainingConfig
from tests.dcd.cells.recipe_case import recipe_candidates


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return recipe_candidates()


def test_every_end_is_trained_on_its_own_images(candidates: Candidates):
    n = {end: int((candidates.weights(end) > 0).sum()) for end in (*BASELINES, "targeted")}
    assert n == {
        "none": 0,
        "error_sample": 20,
        "whole_pool": 260,
        "filtered_pool": 130,
        "targeted": 280,
    }


def test_a_failure_that_is_left_out_takes_its_picks_along(candidates: Candidates):
    """Picks that another failure asked for as well stay; the failures' share of the loss does."""
    both = np.concatenate([candidates.asked, [[200, 1]]])
    given = replace(candidates, asked=both)
    known = np.arange(20) != 0
    whole, weight = given.weights("targeted"), given.weights("targeted", known)
    pool, failures = weight[:260], weight[260:]
    assert failures[0] == 0
    assert (pool[[220, 240]] == 1).all()  # asked for by failure 0 alone
    assert pool[200] > 5
    np.testing.assert_array_equal(pool[:200], 1)
    aimed = np.r_[200:220, 221:240, 241:260, 261:280]
    assert weight[aimed].sum() == pytest.approx(whole[200:].sum())
    assert (given.weights("error_sample", known) > 0).sum() == 19


def test_verified_failures_stay_in_the_pool(candidates: Candidates):
    """They weigh there as any image does, and as a failure where failures are learnt.

    They share the error sample's weight there.
    """
    given = replace(candidates, n_verified=4)
    n = {end: int((given.weights(end) > 0).sum()) for end in (*BASELINES, "targeted")}
    assert n == {
        "none": 0,
        "error_sample": 20,
        "whole_pool": 264,
        "filtered_pool": 134,
        "targeted": 280,
    }
    known = np.arange(20) != 1
    assert given.weights("whole_pool", known)[260:].tolist() == [1, 0, 1, 1] + 16 * [0]
    assert given.weights("error_sample", known)[260:].tolist() == [0.8, 0] + 18 * [0.8]
    assert given.weights("targeted", known)[261] == 0


def test_without_the_verified_failures_all_else_stays(candidates: Candidates):
    given = replace(candidates, n_verified=4, asked=np.array([[200, 4], [201, 19]]))
    found = given.without_verified()
    assert (found.n_verified, found.n_unfailing, len(found.failure_labels)) == (0, 380, 16)
    np.testing.assert_array_equal(found.features[380:], candidates.features[384:])
    assert found.asked.tolist() == [[200, 0], [201, 15]]
    assert len(found.added_weight) == 276
    assert len(found.doubt.weak) == len(found.labels) == 396
    assert found.added_weight[260:].sum() == pytest.approx(candidates.added_weight[260:].sum())
    assert candidates.without_verified() is candidates


def test_images_that_follow_each_other_are_not_copied(candidates: Candidates):
    every, config = np.ones(candidates.n_train, bool), TrainingConfig()
    whole = training_set(
        candidates, candidates.features, candidates.weights("whole_pool"), every, config
    )
    assert whole.features.base is candidates.features
    fold = training_set(
        candidates, candidates.features, candidates.weights("targeted"), ~every, config
    )
    assert len(fold) == 280


def test_weights_of_all_images_are_those_of_the_ones_that_are_trained_on(candidates: Candidates):
    kept = np.arange(candidates.n_train) % 3 != 0
    added = candidates.weights("filtered_pool")
    config = TrainingConfig(class_weighting="balanced")
    every = weights_of_all(candidates, added, kept, config)
    given = training_set(candidates, candidates.features, added, kept, config)
    np.testing.assert_array_equal(every[np.flatnonzero(np.r_[kept, added > 0])], given.weight)
    assert every.sum() == pytest.approx(given.weight.sum())
