from dataclasses import replace

import numpy as np
import pytest

from dcd.cells.lines import BASELINES
from dcd.cells.recipe import Candidates, choose_head, failure_folds, folds, judge_ends
from dcd.config import TrainingConfig
from dcd.training.losses import LabelDoubt

CLASSES = ("left", "right")
CONFIG = TrainingConfig()


def images(rng: np.random.Generator, n: int, failing: bool) -> tuple[np.ndarray, list[str]]:
    """Two classes apart on the first axis; failing ones lie mirrored, and far out on the second."""
    target = np.arange(n) % 2
    x = rng.normal(size=(n, 8)).astype(np.float32)
    x[:, 0] += np.where(target == 1, 2, -2) * (0.2 if failing else 1)
    if failing:
        x[:, 1] += np.where(target == 1, 3, -3)
    return x, [CLASSES[i] for i in target]


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    rng = np.random.default_rng(0)
    parts = [images(rng, 120, False), images(rng, 200, False), images(rng, 60, True)]
    failures = images(rng, 20, True)
    labels = [label for _, of_part in [*parts, failures] for label in of_part]
    noise = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    weak = np.r_[np.zeros(120, bool), np.ones(260, bool), np.zeros(20, bool)]
    return Candidates(
        features=np.concatenate([x for x, _ in [*parts, failures]]),
        labels=labels,
        classes=CLASSES,
        n_train=120,
        agreement=np.r_[np.full(130, 0.9), np.full(130, 0.1)],
        added_weight=np.r_[np.ones(200), np.full(60, 5.0), np.full(20, 9.0)],
        asked=np.stack([np.arange(200, 260), np.arange(60) % 20], axis=1),
        unasked_weight=1.0,
        doubt=LabelDoubt(weak, np.empty((400, 0), np.int64), noise),
    )


def test_every_end_is_trained_on_its_own_images(candidates: Candidates):
    n = {end: int((candidates.weights(end) > 0).sum()) for end in (*BASELINES, "targeted")}
    assert n == {
        "none": 0,
        "error_sample": 20,
        "whole_pool": 260,
        "filtered_pool": 130,
        "targeted": 280,
    }


def test_the_recipe_helps_the_failures_and_keeps_val(candidates: Candidates):
    recipe = choose_head(judge_ends(candidates, CONFIG), CONFIG, "failures_first")
    by_name = {model.name: model for model in recipe.judged}
    none = by_name["none"]
    assert recipe.chosen.failures.mean() > none.failures.mean() + 0.1
    assert recipe.chosen.val.mean() > none.val.mean() - 0.03
    unseen, truth = images(np.random.default_rng(2), 200, True)
    predicted = np.array(CLASSES)[(unseen @ recipe.head.weight.T + recipe.head.bias).argmax(1)]
    assert (predicted == np.array(truth)).mean() > none.failures.mean() + 0.1


def test_an_image_is_judged_by_heads_that_did_not_see_it(candidates: Candidates):
    """With labels that mean nothing, a head that had seen the image would know it."""
    rng = np.random.default_rng(3)
    labels = [CLASSES[i] for i in rng.permutation(np.arange(480) % 2)]
    blind = replace(
        candidates,
        features=rng.normal(size=(480, 200)).astype(np.float32),
        labels=labels,
        added_weight=np.r_[np.ones(200), np.full(60, 5.0), np.full(100, 9.0)],
        asked=np.stack([np.arange(200, 260), np.arange(60)], axis=1),
        doubt=LabelDoubt(
            np.r_[np.zeros(120, bool), np.ones(260, bool), np.zeros(100, bool)],
            np.empty((480, 0), np.int64),
            candidates.doubt.noise,
        ),
    )
    ends = judge_ends(blind, TrainingConfig(l2=1e-3))
    own = ends.starts["error_sample"]
    seen = ends.compression.compress(blind.features) @ own.weight.T + own.bias
    for found, rows in ((ends.val, slice(120)), (ends.failures, slice(380, None))):
        truth = np.array(labels[rows])
        guessed = np.array(CLASSES)[found["error_sample"].argmax(axis=1)]
        assert abs((guessed == truth).mean() - 0.5) < 0.2
        assert (np.array(CLASSES)[seen[rows].argmax(axis=1)] == truth).mean() > 0.75


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


def test_the_same_data_gives_the_same_model(candidates: Candidates):
    one, two = (choose_head(judge_ends(candidates, CONFIG), CONFIG, "both") for _ in range(2))
    assert one.chosen.name == two.chosen.name
    np.testing.assert_array_equal(one.head.weight, two.head.weight)


def test_the_only_image_of_a_class_is_never_held_out():
    fold = folds(["a", "a", "b", "a", "a"], 2)
    assert fold[2] == -1
    assert sorted(fold[[0, 1, 3, 4]].tolist()) == [0, 0, 1, 1]


def test_every_failure_is_held_out_once_and_the_folds_are_even():
    fold = failure_folds(["a", "b", "a", "a", "c", "a"], 3)
    assert sorted(fold[[0, 2, 3, 5]].tolist()) == [0, 0, 1, 2]
    assert sorted(np.bincount(fold).tolist()) == [2, 2, 2]
