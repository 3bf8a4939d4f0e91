"""Foretold effects of removals against fits without the image, on handwritten digits."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from dcd.cells.fits import HeadFit
from dcd.config import TrainingConfig
from dcd.influence.curvature import Curvature, extended
from dcd.influence.effects import Answer, RemovalEffects, answer_of, removal_effects
from dcd.influence.refits import check, spread_rows
from dcd.training.data import TrainingSet
from dcd.training.descent import MeanLoss
from dcd.training.head import LinearHead, fit_standardizer
from dcd.training.head_average import average_heads
from dcd.training.losses import LabelDoubt
from dcd.training.robust_head import fit_head, losses_of

N_TRAIN, N_POOL, N_CHECKED = 200, 300, 20
CLASSES = tuple("0123456789")
_WRONG = 0.4  # of the pool's labels


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (N, 64), true labels and given labels of train, then the pool, then test."""
    drawn: Any = load_digits()
    pixels, truth = drawn.data, drawn.target
    given = truth.copy()
    rng = np.random.default_rng(0)
    wrong = N_TRAIN + np.flatnonzero(rng.random(N_POOL) < _WRONG)
    given[wrong] = (truth[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return pixels.astype(np.float32), truth, given


def fit(config: TrainingConfig, n: int, share: float = 1.0, name: str = "all") -> HeadFit:
    """A head of the first n digits; train alone, or with the pool."""
    pixels, _, given = digits()
    weak = np.arange(n) >= N_TRAIN
    noise = np.full((10, 10), _WRONG / 9, np.float32)
    noise[np.diag_indices(10)] = 1 - _WRONG
    doubt = LabelDoubt(weak, np.empty((n, 0), np.int64), noise)
    weight = np.where(weak, 0.5, 1.0)
    labels = [CLASSES[i] for i in given[:n]]
    data = TrainingSet(pixels[:n], labels, CLASSES, weight, doubt)
    standardizer = fit_standardizer(pixels[:N_TRAIN])
    head = fit_head(data, standardizer, config)
    return HeadFit(name, share, np.arange(n), data, standardizer, config, head)


def failure(head: LinearHead) -> tuple[np.ndarray, int]:
    """A digit that the head gets wrong."""
    pixels, truth, _ = digits()
    rest = slice(N_TRAIN + N_POOL, None)
    predicted = (pixels[rest] @ head.weight.T + head.bias).argmax(axis=1)
    first = int(np.flatnonzero(predicted != truth[rest])[0])
    return pixels[rest][first], int(truth[rest][first])


def refitted(of: HeadFit, without: int | None) -> np.ndarray:
    """Parameters by L-BFGS, which knows no curvature of ours: (C, D + 1)."""
    kept = np.array([i for i in range(len(of.data)) if i != without])
    data = of.data.take(kept)
    x = ((data.features - of.standardizer.mean) / of.standardizer.std).astype(np.float64)
    loss = MeanLoss(x, losses_of(data, of.config), np.asarray(data.weight, float), of.config.l2)
    start = Curvature.of(of).at
    with ThreadPoolExecutor(1) as threads:

        def flat(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = loss.at(parameters.reshape(10, 65), threads)
            return value, gradient.ravel()

        options = {"maxiter": 5000, "maxfun": 10000, "gtol": 1e-9, "ftol": 1e-16}
        found = minimize(flat, start.ravel(), jac=True, method="L-BFGS-B", options=options).x
    return found.reshape(10, 65)


@pytest.mark.parametrize("loss", ["cross_entropy", "forward", "gce"])
def test_what_is_foretold_is_what_leaving_out_and_fitting_again_gives(
    loss: Literal["cross_entropy", "forward", "gce"],
):
    of = fit(TrainingConfig(loss=loss), N_TRAIN + N_POOL)
    asked, label = failure(of.head)
    answer = answer_of(of.head, asked, label)
    effects = removal_effects([of], len(of.data), answer, asked)
    rows = spread_rows(effects, np.arange(len(of.data)), N_CHECKED)
    slope = answer.slopes["margin"]
    before = refitted(of, None)
    measured = [
        slope @ ((refitted(of, row) - before) @ extended(of, asked)) for row in rows.tolist()
    ]
    assert len(rows) == N_CHECKED
    assert spearmanr(effects.margin[rows], measured).statistic >= 0.9
    assert np.corrcoef(effects.margin[rows], measured)[0, 1] > 0.95


def test_a_model_between_heads_sums_what_an_image_does_in_each():
    config = TrainingConfig()
    parts = [fit(config, N_TRAIN, 0.6, "train"), fit(config, N_TRAIN + N_POOL, 0.4, "pool")]
    head = average_heads({p.name: p.head for p in parts}, {p.name: p.share for p in parts})
    asked, label = failure(head)
    answer = answer_of(head, asked, label)
    both = removal_effects(parts, N_TRAIN + N_POOL, answer, asked)
    alone = [removal_effects([part], N_TRAIN + N_POOL, answer, asked) for part in parts]
    np.testing.assert_allclose(both.margin, sum(one.margin for one in alone), rtol=1e-6)
    assert not alone[0].margin[N_TRAIN:].any(), "the pool has no part in the head of train"
    rows = spread_rows(both, np.arange(N_TRAIN + N_POOL), N_CHECKED)
    checked = check(parts, both, asked, rows)
    assert checked.rank_correlation >= 0.9


def test_the_curvature_is_the_slope_of_the_gradient():
    around = Curvature.of(fit(TrainingConfig(), N_TRAIN + N_POOL), np.float64)
    rng = np.random.default_rng(1)
    direction = rng.normal(size=around.at.shape)
    right = around._product(direction, around.logits(around.at))
    step = 1e-5
    ahead, behind = (around.gradient(around.at + s * direction) for s in (step, -step))
    np.testing.assert_allclose(right, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-5)
    solution, damping = around.solve(around.gradient(around.at) + 1e-3, 1e-8)
    again = around._product(solution, around.logits(around.at)) + damping * solution
    np.testing.assert_allclose(again, around.gradient(around.at) + 1e-3, atol=1e-7)


def test_loss_and_margin_tell_the_same_of_the_label():
    of = fit(TrainingConfig(loss="cross_entropy"), N_TRAIN)
    asked, label = failure(of.head)
    answer = answer_of(of.head, asked, label)
    assert answer.margin < 0
    assert answer.predicted == answer.rival != label
    assert answer.loss == pytest.approx(-np.log(answer.probability[label]))
    effects = removal_effects([of], N_TRAIN, answer, asked)
    assert np.corrcoef(effects.margin, effects.loss)[0, 1] < -0.5


def test_how_many_together_would_turn_an_answer():
    def n_to_flip(margin: float, changes: list[float]) -> int | None:
        answer = Answer(label=0, rival=1, margin=margin, loss=1.0, probability=np.ones(2) / 2)
        return RemovalEffects(answer, np.array(changes), np.zeros(len(changes)), 0.0).n_to_flip

    assert n_to_flip(-1.0, [0.3, -2.0, 0.6, 0.5]) == 2, "a wrong answer gains by the largest ones"
    assert n_to_flip(0.5, [-0.3, 1.0, -0.4]) == 2, "a right one loses by the lowest ones"
    assert n_to_flip(-9.0, [0.3, 0.6]) is None
