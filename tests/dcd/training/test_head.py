from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.training import head as head_module
from dcd.training.data import TrainingSet
from dcd.training.head import (
    LinearHead,
    Standardizer,
    fit_standardizer,
    hold_out,
    loss_weights,
    probabilities,
    train_head,
)


def _blobs(n_classes: int, n: int = 240, dim: int = 5) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    target = np.arange(n) % n_classes
    centres = rng.normal(size=(n_classes, dim)) * 1.5
    features = centres[target] + rng.normal(size=(n, dim))
    features = features * rng.uniform(0.1, 10, dim) + rng.uniform(-50, 50, dim)
    return features.astype(np.float32), [f"class {i}" for i in target]


def _objective(head: LinearHead, features, labels, standardizer: Standardizer, l2, weight) -> float:
    """The stated objective, from the folded head alone."""
    predicted = probabilities(head, features)
    target = [head.classes.index(label) for label in labels]
    loss = -np.log(predicted[np.arange(len(labels)), target].astype(float))
    return float(
        np.average(loss, weights=weight) + l2 / 2 * np.sum((head.weight * standardizer.std) ** 2.0)
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_other_head_has_a_lower_objective(n_classes: int, weighted: bool):
    features, labels = _blobs(n_classes)
    classes = tuple(sorted(set(labels)))
    rng = np.random.default_rng(1)
    weight = rng.uniform(0, 3, len(labels)) if weighted else np.ones(len(labels))
    standardizer = fit_standardizer(features)
    head = train_head(
        TrainingSet.of_true_labels(features, labels, classes, weight), standardizer, 0.1
    )

    standardised = ((features - standardizer.mean) / standardizer.std).astype(float)
    onehot = np.eye(n_classes)[[classes.index(label) for label in labels]]
    dim = features.shape[1]

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = v[: n_classes * dim].reshape(n_classes, dim), v[n_classes * dim :]
        logits = standardised @ w.T + b
        logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        value = -np.average((logp * onehot).sum(1), weights=weight) + 0.05 * np.sum(w**2)
        residual = (np.exp(logp) - onehot) * (weight / weight.sum())[:, None]
        return value, np.concatenate(
            [(residual.T @ standardised + 0.1 * w).ravel(), residual.sum(0)]
        )

    start = np.zeros(n_classes * (dim + 1))
    assert check_grad(lambda v: objective(v)[0], lambda v: objective(v)[1], start + 0.1) < 1e-5
    best = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    found = _objective(head, features, labels, standardizer, 0.1, weight)
    assert found == pytest.approx(best.fun, abs=1e-5)


def test_an_integer_weight_equals_repeating_the_image():
    features, labels = _blobs(3, n=60)
    classes = tuple(sorted(set(labels)))
    standardizer = fit_standardizer(features)
    repeats = np.arange(60) % 3 + 1
    data = TrainingSet.of_true_labels(features, labels, classes, repeats.astype(float))
    weighted = train_head(data, standardizer, 0.01)
    data = TrainingSet.of_true_labels(features, labels, classes)
    repeated = train_head(data.take(np.arange(60).repeat(repeats)), standardizer, 0.01)
    np.testing.assert_allclose(
        probabilities(weighted, features), probabilities(repeated, features), atol=2e-3
    )


def test_the_same_input_gives_the_same_bits():
    features, labels = _blobs(4)
    classes = tuple(sorted(set(labels)))
    data = TrainingSet.of_true_labels(features, labels, classes)
    fits = []
    for _ in range(2):
        head_module._remembered.forget()
        fits.append(train_head(data, fit_standardizer(features), 1e-3))
    assert fits[0].weight.tobytes() == fits[1].weight.tobytes()
    assert fits[0].bias.tobytes() == fits[1].bias.tobytes()


def test_a_head_that_was_just_fitted_is_not_fitted_again(monkeypatch):
    features, labels = _blobs(3)
    classes = tuple(sorted(set(labels)))
    data = TrainingSet.of_true_labels(features, labels, classes)
    first = train_head(data, fit_standardizer(features), 0.017)
    monkeypatch.setattr(head_module, "descend", None)
    assert train_head(data, fit_standardizer(features), 0.017) is first
    other = replace(data, weight=data.weight + np.arange(240))
    with pytest.raises(TypeError):
        train_head(other, fit_standardizer(features), 0.017)


def test_a_constant_feature_is_harmless():
    features, labels = _blobs(3)
    features[:, 2] = 0.1
    standardizer = fit_standardizer(features)
    assert standardizer.std[2] == 1
    data = TrainingSet.of_true_labels(features, labels, tuple(sorted(set(labels))))
    head = train_head(data, standardizer, 1e-3)
    assert np.isfinite(head.weight).all()


def test_probabilities_survive_huge_logits():
    head = LinearHead(("a", "b"), np.array([[1e4], [-1e4]], np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(probabilities(head, np.array([[1.0]], np.float32)), [[1, 0]])


def test_bad_input_is_named():
    features, labels = _blobs(3)
    classes = tuple(sorted(set(labels)))
    standardizer = fit_standardizer(features)
    with pytest.raises(LabelError, match="class 2"):
        train_head(TrainingSet.of_true_labels(features, labels, classes[:2]), standardizer, 1e-3)
    with pytest.raises(LabelError, match="class 9"):
        train_head(
            TrainingSet.of_true_labels(features, labels, (*classes, "class 9")), standardizer, 1e-3
        )
    with pytest.raises(DataError, match="expected features"):
        train_head(TrainingSet.of_true_labels(features[:, :3], labels, classes), standardizer, 1e-3)
    broken = features.copy()
    broken[7, 1] = np.inf
    with pytest.raises(DataError, match="row 7"):
        train_head(TrainingSet.of_true_labels(broken, labels, classes), standardizer, 1e-3)
    with pytest.raises(DataError, match="N > 0"):
        fit_standardizer(features[:0])
    head = train_head(TrainingSet.of_true_labels(features, labels, classes), standardizer, 1e-3)
    with pytest.raises(EncoderMismatch, match="expected features"):
        probabilities(head, features[:, :2])


def test_loss_weights_favour_sources_and_balance_classes():
    config = TrainingConfig(debug_train_weight=2.0)
    labels = ["a", "a", "a", "b", "b"]
    added = np.array([1.0, 0.5])
    plain = loss_weights(labels, 3, added, config)
    np.testing.assert_allclose(plain, [1, 1, 1, 2, 1])
    balanced = loss_weights(
        labels, 3, added, config.model_copy(update={"class_weighting": "balanced"})
    )
    assert balanced[:3].sum() == pytest.approx(balanced[3:].sum())
    assert balanced.sum() == pytest.approx(plain.sum())
    assert balanced[3] == pytest.approx(2 * balanced[4])


def test_hold_out_takes_its_share_of_every_class():
    labels = ["a"] * 40 + ["b"] * 10 + ["c"] * 3
    held_out = hold_out(labels, 0.25, seed=0)
    taken = [label for label, out in zip(labels, held_out, strict=True) if out]
    assert {name: taken.count(name) for name in "abc"} == {"a": 10, "b": 2, "c": 0}
    assert (hold_out(labels, 0.25, seed=0) == held_out).all()
    assert (hold_out(labels, 0.25, seed=1) != held_out).any()
    assert not hold_out(labels, 0.0, seed=0).any()
    assert not hold_out([], 0.2, seed=0).any()
