import numpy as np
import pytest

from dcd.cells.recipe import (
    BASELINES,
    Candidates,
    choose_head,
    folds,
    judge_ends,
    line_of,
    points,
)
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
    x, labels = images(np.random.default_rng(1), 40, True)
    recipe = choose_head(judge_ends(candidates, x, CONFIG), labels, CONFIG, "failures_first")
    by_name = {model.name: model for model in recipe.judged}
    none = by_name["none"]
    assert recipe.chosen.debug_val.mean() > none.debug_val.mean() + 0.1
    assert recipe.chosen.val.mean() > none.val.mean() - 0.03
    unseen, truth = images(np.random.default_rng(2), 200, True)
    predicted = np.array(CLASSES)[(unseen @ recipe.head.weight.T + recipe.head.bias).argmax(1)]
    assert (predicted == np.array(truth)).mean() > 0.8


def test_val_is_judged_by_heads_that_did_not_see_the_image(candidates: Candidates):
    """With labels that mean nothing, a head that had seen val would know it."""
    rng = np.random.default_rng(3)
    labels = list(candidates.labels)
    labels[:120] = [CLASSES[i] for i in rng.permutation(np.arange(120) % 2)]
    blind = Candidates(
        rng.normal(size=(400, 60)).astype(np.float32),
        labels,
        CLASSES,
        120,
        candidates.agreement,
        candidates.added_weight,
        candidates.doubt,
    )
    ends = judge_ends(blind, rng.normal(size=(10, 60)).astype(np.float32), CONFIG)
    truth = np.array(labels[:120])
    guessed = np.array(CLASSES)[ends.val["none"].argmax(axis=1)]
    assert abs((guessed == truth).mean() - 0.5) < 0.2
    own = ends.compression.compress(blind.features[:120]) @ ends.starts["none"].weight.T
    assert (np.array(CLASSES)[own.argmax(axis=1)] == truth).mean() > 0.75


def test_the_same_data_gives_the_same_model(candidates: Candidates):
    x, labels = images(np.random.default_rng(1), 40, True)
    one, two = (
        choose_head(judge_ends(candidates, x, CONFIG), labels, CONFIG, "both") for _ in range(2)
    )
    assert one.chosen.name == two.chosen.name
    np.testing.assert_array_equal(one.head.weight, two.head.weight)


def test_all_shares_have_the_sum_one_and_lie_on_a_line():
    for shares in points():
        assert abs(sum(shares.values()) - 1) < 1e-9
        assert shares.keys() <= set(line_of(shares))
    assert line_of({"targeted": 1.0}) == ("whole_pool", "targeted")


def test_the_only_image_of_a_class_is_never_held_out():
    fold = folds(["a", "a", "b", "a", "a"], 2)
    assert fold[2] == -1
    assert sorted(fold[[0, 1, 3, 4]].tolist()) == [0, 0, 1, 1]
