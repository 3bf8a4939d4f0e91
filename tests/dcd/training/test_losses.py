import numpy as np
import pytest

from dcd.config import TrainingConfig
from dcd.training.losses import (
    LabelDoubt,
    cross_entropy_and_slopes,
    forward_losses_and_slopes,
    high_loss,
    joined,
    likelihoods,
    losses_and_slopes,
    prediction_shares,
    targets,
)

VOTES = np.array([[1, 1, 1, 2], [2, 2, -1, -1], [-1, -1, -1, -1], [1, 1, 1, 1]])
WEAK = np.array([True, True, True, False])
LABELS = np.array([0, 2, 1, 0])


def softened(**options: object) -> np.ndarray:
    config = TrainingConfig.model_validate({"loss": "cross_entropy"} | options)
    return targets(LABELS, LabelDoubt(WEAK, VOTES), 3, config)


def test_a_pool_label_is_mixed_with_those_of_its_neighbours():
    found = softened(soft_labels="agreement")
    np.testing.assert_allclose(found[0], [0.5, 0.375, 0.125])
    np.testing.assert_allclose(found[1], [0, 0, 1])  # of two votes: missing ones do not count
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(
        softened(soft_labels="agreement", soft_label_share=0.2)[0], [0.8, 0.15, 0.05], atol=1e-6
    )


def test_without_votes_or_with_a_true_label_the_target_is_the_label():
    assert softened(soft_labels="agreement")[2:].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert softened().tolist() == softened(soft_labels="bootstrap").tolist()
    assert softened().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_only_pool_images_are_bootstrapped():
    doubt = LabelDoubt(WEAK, VOTES)
    found = prediction_shares(doubt, TrainingConfig(loss="cross_entropy", soft_labels="bootstrap"))
    np.testing.assert_allclose(found, [0.05, 0.05, 0.05, 0])
    assert not prediction_shares(
        doubt, TrainingConfig(loss="cross_entropy", soft_labels="agreement")
    ).any()


def test_what_is_left_out_is_weak_and_has_the_highest_loss():
    losses = np.array([9.0, 1.0, 3.0, 3.0, 2.0])
    weak = np.array([False, True, True, True, True])
    assert np.flatnonzero(high_loss(losses, weak, 0.5)).tolist() == [2, 3]
    assert np.flatnonzero(high_loss(losses, weak, 0.25)).tolist() == [2]  # the earlier of equals
    assert not high_loss(losses, weak, 0.0).any()
    assert not high_loss(losses, np.zeros(5, bool), 0.9).any()


def test_doubts_with_and_without_votes_are_joined():
    found = joined([LabelDoubt.none(2), LabelDoubt(WEAK, VOTES)])
    assert found.weak.tolist() == [False, False, *WEAK.tolist()]
    assert found.votes.tolist() == [[-1] * 4, [-1] * 4, *VOTES.tolist()]


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
def test_slopes_are_the_differences_of_the_loss(q: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (6, 4))
    target = rng.dirichlet(np.ones(4), 6)
    share = np.array([0, 0, 0.05, 0.3, 0.6, 1])
    _, slopes = losses_and_slopes(logits, target, share, q)
    step = 1e-6
    for k in range(4):
        at = np.eye(4)[k] * step
        above, _ = losses_and_slopes(logits + at, target, share, q)
        below, _ = losses_and_slopes(logits - at, target, share, q)
        np.testing.assert_allclose(slopes[:, k], (above - below) / (2 * step), atol=1e-7)


def test_the_loss_goes_from_cross_entropy_to_the_absolute_error():
    logits = np.log(np.array([[0.7, 0.2, 0.1]]))
    target, none = np.array([[0.0, 1.0, 0.0]]), np.zeros(1)
    assert losses_and_slopes(logits, target, none, 0.0)[0] == pytest.approx(-np.log(0.2))
    assert losses_and_slopes(logits, target, none, 1e-9)[0] == pytest.approx(-np.log(0.2))
    assert losses_and_slopes(logits, target, none, 1.0)[0] == pytest.approx(0.8)


def test_hopeless_images_have_finite_losses_and_slopes():
    logits = np.array([[200.0, -200.0]], np.float32)
    target = np.array([[0.0, 1.0]], np.float32)
    for q in (0.0, 0.7):
        loss, slopes = losses_and_slopes(logits, target, np.full(1, 0.1, np.float32), q)
        assert np.isfinite(loss).all()
        assert np.isfinite(slopes).all()
        assert loss.dtype == slopes.dtype == np.float32


def test_the_likelihood_of_a_true_label_is_its_own_and_of_a_pool_label_that_of_the_noise():
    noise = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]], np.float32)
    doubt = LabelDoubt(WEAK, VOTES, noise)
    found = likelihoods(LABELS, doubt, 3)
    for row, label, weak in zip(found, LABELS, WEAK, strict=True):
        expected = noise[:, label] if weak else np.eye(3)[label]
        np.testing.assert_allclose(row, expected, atol=1e-7)
    certain = likelihoods(LABELS, LabelDoubt(WEAK, VOTES), 3)
    np.testing.assert_array_equal(certain, np.eye(3)[LABELS])


def test_the_slopes_of_the_forward_correction_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6, 3))
    likelihood = rng.dirichlet(np.ones(3), 6)
    likelihood[0] = [0, 1, 0]
    _, slopes = forward_losses_and_slopes(logits, likelihood)
    for k in range(3):
        at = 1e-6 * np.eye(3)[k]
        above, _ = forward_losses_and_slopes(logits + at, likelihood)
        below, _ = forward_losses_and_slopes(logits - at, likelihood)
        np.testing.assert_allclose(slopes[:, k], (above - below) / 2e-6, atol=1e-7)


def test_the_forward_correction_of_a_true_label_is_cross_entropy():
    logits = np.random.default_rng(0).normal(0, 2, (3, 3))
    plain = losses_and_slopes(logits, np.eye(3), np.zeros(3), 0.0)
    found = forward_losses_and_slopes(logits, np.eye(3))
    np.testing.assert_allclose(found[0], plain[0])
    np.testing.assert_allclose(found[1], plain[1], atol=1e-12)


def test_hopeless_images_have_finite_forward_losses_and_slopes():
    logits = np.array([[300.0, -300.0]], np.float32)
    loss, slopes = forward_losses_and_slopes(logits, np.array([[0.0, 1.0]], np.float32))
    assert loss == pytest.approx(600)
    np.testing.assert_allclose(slopes, [[1.0, -1.0]])


def test_plain_cross_entropy_is_the_case_without_options():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 30, (50, 4)).astype(np.float32)
    target = rng.dirichlet(np.ones(4), 50).astype(np.float32)
    losses, slopes = cross_entropy_and_slopes(logits, target)
    expected, expected_slopes = losses_and_slopes(logits, target, np.zeros(50, np.float32), 0.0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes, expected_slopes, atol=1e-6)
