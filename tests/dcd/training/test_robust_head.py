from dataclasses import replace

import numpy as np
import pytest

from dcd.config import TrainingConfig
from dcd.errors import LabelError
from dcd.training.data import TrainingSet
from dcd.training.head import (
    LinearHead,
    as_they_are,
    fit_standardizer,
    probabilities,
    train_head,
)
from dcd.training.losses import LabelDoubt
from dcd.training.robust_head import fit_head, fit_together

CLASSES = ("a", "b", "c")
N_TRUE, N_WEAK, DIM = 60, 600, 8


class Noisy:
    """Blobs of three classes: a few images of true label, many of which 40 % are mislabelled.

    All mislabelled ones of a class carry the same wrong label, as confusions do.
    """

    def __init__(self):
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(3, DIM)) * 1.5
        self.truth = np.arange(N_TRUE + N_WEAK) % 3
        self.features = self.sample(rng, centres, self.truth)
        given = self.truth.copy()
        is_weak = np.arange(len(given)) >= N_TRUE
        self.wrong = is_weak & (rng.random(len(given)) < 0.4)
        given[self.wrong] = (given[self.wrong] + 1) % 3
        self.labels = [CLASSES[i] for i in given]
        right = np.where(rng.random((len(given), 20)) < 0.9, self.truth[:, None], given[:, None])
        noise = (0.6 * np.eye(3) + 0.4 * np.eye(3)[[1, 2, 0]]).astype(np.float32)
        self.doubt = LabelDoubt(is_weak, np.where(is_weak[:, None], right, -1), noise)
        weight = np.ones(len(given))
        self.data = TrainingSet(self.features, self.labels, CLASSES, weight, self.doubt)
        self.standardizer = fit_standardizer(self.features)
        self.fresh_truth = np.arange(900) % 3
        self.fresh = self.sample(rng, centres, self.fresh_truth)

    @staticmethod
    def sample(rng: np.random.Generator, centres: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return (centres[truth] + rng.normal(size=(len(truth), DIM))).astype(np.float32)

    def fit(self, **options: object) -> LinearHead:
        plain = {"l2": 1e-3, "loss": "cross_entropy"}
        config = TrainingConfig.model_validate(plain | options)
        return fit_head(self.data, self.standardizer, config)

    def accuracy(self, head: LinearHead) -> float:
        return float(np.mean(probabilities(head, self.fresh).argmax(axis=1) == self.fresh_truth))


@pytest.fixture(scope="module")
def noisy() -> Noisy:
    return Noisy()


@pytest.mark.parametrize(
    ("option", "gain"),
    [
        ({"loss": "forward"}, 0.02),
        ({"loss": "gce"}, 0.02),
        ({"drop_high_loss": 0.4}, 0.02),
        ({"soft_labels": "agreement"}, 0.02),
        ({"soft_labels": "bootstrap", "soft_label_share": 0.5}, 0.01),
        ({"loss": "gce", "drop_high_loss": 0.3, "soft_labels": "agreement"}, 0.02),
    ],
    ids=str,
)
def test_every_option_beats_cross_entropy_amid_wrong_labels(
    noisy: Noisy, option: dict[str, object], gain: float
):
    assert noisy.accuracy(noisy.fit(**option)) > noisy.accuracy(noisy.fit()) + gain


def test_without_options_it_is_the_plain_head(noisy: Noisy):
    plain = train_head(noisy.data, noisy.standardizer, 1e-3)
    assert noisy.fit().weight.tobytes() == plain.weight.tobytes()


def test_a_gce_near_cross_entropy_changes_next_to_nothing(noisy: Noisy):
    near = probabilities(noisy.fit(loss="gce", gce_q=1e-4), noisy.fresh)
    np.testing.assert_allclose(near, probabilities(noisy.fit(), noisy.fresh), atol=5e-3)


@pytest.mark.parametrize(
    "option",
    [{"loss": "forward"}, {"loss": "gce"}, {"soft_labels": "bootstrap"}, {"drop_high_loss": 0.2}],
    ids=str,
)
def test_the_same_input_gives_the_same_bits(noisy: Noisy, option: dict[str, object]):
    one, other = noisy.fit(**option), noisy.fit(**option)
    assert one.weight.tobytes() == other.weight.tobytes()
    assert one.bias.tobytes() == other.bias.tobytes()


def test_where_all_labels_are_true_nothing_is_left_out_or_softened(noisy: Noisy):
    certain = TrainingSet.of_true_labels(noisy.features, noisy.labels, CLASSES)
    plain = {"loss": "cross_entropy", "l2": 1e-3}
    options = plain | {"drop_high_loss": 0.5, "soft_labels": "bootstrap"}
    config = TrainingConfig.model_validate(options)
    head = fit_head(certain, noisy.standardizer, config)
    assert head.weight.tobytes() == noisy.fit().weight.tobytes()


def test_two_classes_stay_mirror_images():
    noisy = Noisy()
    rows = np.flatnonzero([label != "c" for label in noisy.labels])
    doubt = LabelDoubt(noisy.doubt.weak, noisy.doubt.votes)
    data = replace(noisy.data, classes=CLASSES[:2], doubt=doubt).take(rows)
    head = fit_head(data, noisy.standardizer, TrainingConfig(loss="gce"))
    np.testing.assert_allclose(head.weight[0], -head.weight[1], atol=1e-5)


@pytest.mark.parametrize(
    "option", [{"loss": "forward"}, {"drop_high_loss": 0.2}, {"loss": "gce"}, {}]
)
def test_heads_that_are_fitted_together_are_those_that_are_fitted_alone(
    noisy: Noisy, option: dict[str, object]
):
    config = TrainingConfig.model_validate({"loss": "cross_entropy"} | option)
    left_out = [np.arange(len(noisy.labels)) % 4 == fold for fold in range(3)]
    weights = [np.ones(len(noisy.labels)), *(np.where(out, 0.0, 2.0) for out in left_out)]
    start = LinearHead(CLASSES, np.zeros((3, DIM), np.float32), np.zeros(3, np.float32))
    found = fit_together(noisy.data, weights, config, start)
    for head, weight in zip(found, weights, strict=True):
        rows = np.flatnonzero(weight)
        data = replace(noisy.data, weight=weight).take(rows)
        alone = fit_head(data, as_they_are(DIM), config, start)
        np.testing.assert_allclose(
            probabilities(head, noisy.fresh), probabilities(alone, noisy.fresh), atol=5e-3
        )


def test_of_heads_that_are_fitted_together_each_needs_every_class(noisy: Noisy):
    without_a = np.array([float(label != "a") for label in noisy.labels])
    config = TrainingConfig(loss="cross_entropy")
    with pytest.raises(LabelError, match=r"none has the label \['a'\]"):
        fit_together(noisy.data, [np.ones(len(without_a)), without_a], config)
