from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dcd.cells.candidates import Candidates
from dcd.cells.cross_fitting import failure_folds, folds, judge_ends, right_out_of_fold
from dcd.cells.lines import ENDS
from dcd.config import TrainingConfig
from dcd.training.head import LinearHead
from dcd.training.losses import LabelDoubt
from tests.dcd.cells.recipe_case import CLASSES, recipe_candidates


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return recipe_candidates()


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
    for found, rows in (
        (ends.held_out.val, slice(120)),
        (ends.held_out.failures, slice(380, None)),
    ):
        truth = np.array(labels[rows])
        guessed = np.array(CLASSES)[found["error_sample"].argmax(axis=1)]
        assert abs((guessed == truth).mean() - 0.5) < 0.2
        assert (np.array(CLASSES)[seen[rows].argmax(axis=1)] == truth).mean() > 0.75


def test_the_only_image_of_a_class_is_never_held_out():
    fold = folds(["a", "a", "b", "a", "a"], 2)
    assert fold[2] == -1
    assert sorted(fold[[0, 1, 3, 4]].tolist()) == [0, 0, 1, 1]


def test_every_failure_is_held_out_once_and_the_folds_are_even():
    fold = failure_folds(["a", "b", "a", "a", "c", "a"], 3)
    assert sorted(fold[[0, 2, 3, 5]].tolist()) == [0, 0, 1, 2]
    assert sorted(np.bincount(fold).tolist()) == [2, 2, 2]


def test_whoever_judges_has_seen_no_verified_failure(candidates: Candidates):
    """Whatever label people gave it; the heads that are judged for it do learn it."""
    n = 4
    given = replace(candidates, n_verified=n)
    labels = list(candidates.labels)
    labels[380 : 380 + n] = [CLASSES[1 - CLASSES.index(label)] for label in labels[380 : 380 + n]]
    config = TrainingConfig()
    one, other = (judge_ends(of, config) for of in (given, replace(given, labels=labels)))
    assert len(one.held_out.failures_truth) == 20 - n
    for end in ENDS:
        for of in ("val", "failures"):
            logits = [getattr(ends.held_out, of)[end] for ends in (one, other)]
            np.testing.assert_array_equal(*logits)
        of_one, of_other = (ends.starts[end].weight for ends in (one, other))
        assert np.array_equal(of_one, of_other) == (end == "none")
    assert right_out_of_fold(given, config).shape == (20 - n,)


def test_what_is_no_review_is_the_same_when_images_of_the_pool_become_failures(
    candidates: Candidates,
):
    """So that two models differ by what people said, and not by where a sample begins."""
    taken = np.array([130, 250, 299])  # of the pool, in the order of the images
    rest = np.delete(np.arange(120, 380), taken - 120)
    rows = np.r_[:120, rest, taken, 380:400]
    given = replace(
        candidates,
        features=candidates.features[rows],
        labels=[candidates.labels[i] for i in rows],
        agreement=candidates.agreement[rest - 120],
        added_weight=candidates.added_weight[rows[120:] - 120],
        asked=np.zeros((0, 2), np.int64),
        doubt=candidates.doubt.take(rows),
        n_verified=len(taken),
        pool_order=np.argsort(rows[120:380]),
    )
    before, after = (judge_ends(of, TrainingConfig()) for of in (candidates, given))
    np.testing.assert_array_equal(after.compression.offset, before.compression.offset)
    for of in ("val", "failures"):
        one, other = (getattr(ends.held_out, of)["none"] for ends in (before, after))
        np.testing.assert_array_equal(one, other)


def test_heads_with_and_without_verified_failures_are_kept_apart(candidates: Candidates):
    kept: dict[str, LinearHead] = {}

    def keep(name: str, fit: Callable[[], LinearHead]) -> LinearHead:
        if name not in kept:
            kept[name] = fit()
        return kept[name]

    config, given = TrainingConfig(), replace(candidates, n_verified=4)
    found, expected = judge_ends(given, config, keep), judge_ends(given, config)
    for end in ENDS:
        np.testing.assert_array_equal(found.starts[end].weight, expected.starts[end].weight)


def test_none_is_judged_by_heads_of_nearly_all_of_train(candidates: Candidates):
    """With three folds it would have a third fewer images than it has in truth."""
    rng = np.random.default_rng(4)
    direction = rng.normal(size=60)
    x = rng.normal(size=(400, 60)).astype(np.float32)
    x[:120] += np.outer(np.arange(120) % 2 * 2 - 1, 0.25 * direction / 3)
    labels = [CLASSES[i % 2] for i in range(120)] + candidates.labels[120:]
    ends = judge_ends(replace(candidates, features=x, labels=labels), TrainingConfig())
    fresh = rng.normal(size=(4000, 60)).astype(np.float32)
    fresh += np.outer(np.arange(4000) % 2 * 2 - 1, 0.25 * direction / 3).astype(np.float32)
    head = ends.compression.expand(ends.starts["none"])
    true = (fresh @ head.weight.T + head.bias).argmax(axis=1) == np.arange(4000) % 2
    judged = ends.held_out.val["none"].argmax(axis=1) == ends.held_out.val_truth
    assert abs(judged.mean() - true.mean()) < 0.1


def test_what_saw_no_failure_is_kept_and_the_same_to_the_bit_when_failures_come(
    candidates: Candidates,
):
    n_known = 10
    fewer = replace(
        candidates,
        features=candidates.features[:-n_known],
        labels=candidates.labels[:-n_known],
        added_weight=candidates.added_weight[:-n_known],
        asked=candidates.asked[candidates.asked[:, 1] < n_known],
        doubt=candidates.doubt.take(np.arange(len(candidates.labels) - n_known)),
    )
    kept: dict[str, LinearHead] = {}
    fitted: list[str] = []

    def keep(name: str, fit: Callable[[], LinearHead]) -> LinearHead:
        if name not in kept:
            fitted.append(name)
            kept[name] = fit()
        return kept[name]

    config = TrainingConfig()
    judge_ends(fewer, config, keep)
    assert {name.partition(" without ")[0] for name in fitted} == {
        "compression",
        "none",
        "whole_pool",
        "filtered_pool",
    }
    fitted.clear()
    found, expected = judge_ends(candidates, config, keep), judge_ends(candidates, config)
    assert fitted == []
    for end in ENDS:
        np.testing.assert_array_equal(found.starts[end].weight, expected.starts[end].weight)
        for of in ("val", "failures"):
            one, other = (getattr(ends.held_out, of)[end] for ends in (found, expected))
            np.testing.assert_array_equal(one, other)
