from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize as scipys_minimize
from scipy.optimize import rosen, rosen_der

from dcd.training import descent
from dcd.training.descent import (
    Ending,
    MeanLoss,
    at_each,
    descend,
    descend_together,
    minimise,
)
from dcd.training.losses import cross_entropy_and_slopes, losses_and_slopes

TO_THE_END = Ending(gradient=1e-9, gain=0.0, steps=300)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(descent, "_BLOCK_BYTES", 16 * 5 * 8)  # 16 rows of 5 float64


def mean_loss(q: float) -> MeanLoss:
    rng = np.random.default_rng(1)
    features, target = rng.normal(size=(40, 5)), rng.dirichlet(np.ones(3), 40)
    share, weight = rng.uniform(0, 0.4, 40), rng.uniform(0, 3, 40)
    return MeanLoss(
        features,
        lambda logits, rows: losses_and_slopes(logits, target[rows], share[rows], q),
        weight,
        l2=0.1,
    )


def at(loss: MeanLoss, point: np.ndarray, n_threads: int = 2) -> tuple[float, np.ndarray]:
    with ThreadPoolExecutor(n_threads) as threads:
        return loss.at(point, threads)


def test_the_number_of_threads_changes_no_bit(small_blocks):
    point = np.random.default_rng(2).normal(size=(3, 6))
    value, slopes = at(mean_loss(0.7), point, 1)
    same_value, same_slopes = at(mean_loss(0.7), point, 4)
    assert value == same_value
    assert np.array_equal(slopes, same_slopes)


def test_blocks_add_up_to_the_whole(monkeypatch):
    point = np.random.default_rng(2).normal(size=(3, 6))
    whole, whole_slopes = at(mean_loss(0.7), point)
    monkeypatch.setattr(descent, "_BLOCK_BYTES", 1)
    value, slopes = at(mean_loss(0.7), point)
    np.testing.assert_allclose(value, whole)
    np.testing.assert_allclose(slopes, whole_slopes, atol=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_the_gradient_is_that_of_finite_differences(q: float, small_blocks):
    loss = mean_loss(q)
    point = np.random.default_rng(2).normal(size=(3, 6))
    expected = np.empty_like(point)
    for place in np.ndindex(point.shape):
        step = np.zeros_like(point)
        step[place] = 1e-6
        expected[place] = (at(loss, point + step)[0] - at(loss, point - step)[0]) / 2e-6
    np.testing.assert_allclose(at(loss, point)[1], expected, atol=1e-8)


def correlated_loss() -> MeanLoss:
    """A cross-entropy of 300 images whose 20 features hang together and differ in size."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 20)) @ (rng.normal(size=(20, 20)) * np.geomspace(1, 30, 20))
    target = np.eye(4)[rng.integers(0, 4, 300)]
    return MeanLoss(
        features / features.std(axis=0),
        lambda logits, rows: cross_entropy_and_slopes(logits, target[rows]),
        rng.uniform(0, 3, 300),
        l2=1e-3,
    )


def test_the_minimum_is_that_of_another_optimiser():
    loss = correlated_loss()
    start = np.zeros((4, 21))
    found = descend(loss, start, TO_THE_END)
    with ThreadPoolExecutor(1) as threads:

        def flat(point: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = loss.at(point.reshape(4, 21), threads)
            return value, gradient.ravel()

        options = {"gtol": 1e-9, "ftol": 1e-16, "maxiter": 5000, "maxfun": 5000}
        best = scipys_minimize(flat, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    assert at(loss, found)[0] == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(found[:, :-1], best.x.reshape(4, 21)[:, :-1], atol=1e-3)


def test_curvature_saves_passes_over_the_features():
    loss = correlated_loss()
    start = np.zeros((4, 21))
    n_passes = []
    for inverse in (loss.inverse_curvature(start), np.eye(21)):
        seen = []

        def counted(point: np.ndarray, seen: list[float] = seen) -> tuple[float, np.ndarray]:
            value, gradient = at(loss, point)
            seen.append(value)
            return value, gradient

        minimise(counted, start, inverse, Ending(gradient=1e-4, gain=0.0, steps=300))
        n_passes.append(len(seen))
    assert n_passes[0] < n_passes[1] / 2


def test_a_valley_that_curves_down_on_its_way_is_descended():
    def valley(point: np.ndarray) -> tuple[float, np.ndarray]:
        return rosen(point[0]), rosen_der(point[0])[None]

    found = minimise(valley, np.full((1, 4), -1.2), np.eye(4), TO_THE_END)
    np.testing.assert_allclose(found, np.ones((1, 4)), atol=1e-6)


def test_where_rounding_hides_what_is_left_the_descent_ends_at_the_best_point():
    calls = []

    def coarse(point: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(point)
        return float(np.round(np.sum(point**2), 3)), 2 * point

    found = minimise(coarse, np.full((2, 3), 4.0), np.eye(3), TO_THE_END)
    assert np.abs(found).max() < 0.05
    assert len(calls) < 60


def test_no_more_steps_are_taken_than_are_allowed():
    loss, start = correlated_loss(), np.zeros((4, 21))
    values = [at(loss, descend(loss, start, Ending(0.0, 0.0, steps)))[0] for steps in (0, 1, 3, 9)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


def folds_of(loss: MeanLoss) -> list[MeanLoss]:
    """The loss, and it without a fifth of the images each."""
    left_out = [np.arange(len(loss.weight)) % 5 == fold for fold in range(5)]
    return [loss, *(replace(loss, weight=np.where(out, 0, loss.weight)) for out in left_out)]


def test_one_pass_gives_each_loss_what_its_own_would_give(small_blocks):
    losses = folds_of(mean_loss(0.7))
    points = list(np.random.default_rng(2).normal(size=(6, 3, 6)))
    with ThreadPoolExecutor(2) as threads:
        together = at_each(losses, points, threads)
    for loss, point, (value, slopes) in zip(losses, points, together, strict=True):
        own_value, own_slopes = at(loss, point)
        assert value == pytest.approx(own_value)
        np.testing.assert_allclose(slopes, own_slopes, atol=1e-12)


def test_descents_that_go_together_reach_what_each_reaches_alone():
    losses, start = folds_of(correlated_loss()), np.zeros((4, 21))
    ending = Ending(gradient=1e-7, gain=0.0, steps=300)
    found = descend_together(losses, start, ending)
    for loss, point in zip(losses, found, strict=True):
        np.testing.assert_allclose(point, descend(loss, start, ending), atol=1e-4)
    again = descend_together(losses, start, ending)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_few_images_of_a_high_weight_decide_the_curvature(monkeypatch):
    """A sample of every tenth image would hardly meet them."""
    loss = correlated_loss()
    weight = np.where(np.arange(300) % 50 == 1, 100.0, 1.0)
    heavy = replace(loss, weight=weight)
    exact = heavy.inverse_curvature(np.zeros((4, 21)))
    monkeypatch.setattr(descent, "_CURVED_ROWS", 30)
    sampled = heavy.inverse_curvature(np.zeros((4, 21)))
    monkeypatch.setattr(descent, "_HEAVY", np.inf)
    blind = heavy.inverse_curvature(np.zeros((4, 21)))
    gap, blind_gap = (
        np.linalg.norm(np.linalg.inv(found) - np.linalg.inv(exact)) for found in (sampled, blind)
    )
    assert gap < blind_gap / 2
