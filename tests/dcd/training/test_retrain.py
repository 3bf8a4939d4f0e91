import numpy as np
import pytest
from torch import nn

from dcd.config import TrainingConfig
from dcd.training.data import LabelledImages, Recipe, RetrainingData
from dcd.training.finetune import finetune, predict_images
from dcd.training.retrain import RetrainedModel, retrain
from tests.dcd.selection.striped_images import (
    CLASSES,
    PREPROCESS,
    striped_images,
    tiny_network,
    weights_of,
)

CONFIG = TrainingConfig(mode="full", epochs=3, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def champion() -> nn.Module:
    """A network that already tells clean stripes apart."""
    images, labels = striped_images(64, noise=10)
    recipe = Recipe(CLASSES, PREPROCESS, CONFIG, 0)
    return finetune(tiny_network(), LabelledImages(images, labels), recipe)


def _retrain(champion: nn.Module, **options: object) -> RetrainedModel:
    config = CONFIG.model_copy(update=options)
    saved = champion.state_dict()

    def original() -> nn.Module:
        network = tiny_network()
        network.load_state_dict(saved)
        return network

    data = RetrainingData(
        LabelledImages(*striped_images(40, seed=1, noise=10)),
        LabelledImages(*striped_images(24, seed=2, noise=80), np.full(24, 2.0)),
        LabelledImages(*striped_images(20, seed=3, noise=80)),
    )
    return retrain(original, data, Recipe(CLASSES, PREPROCESS, config, 0))


def test_without_an_ensemble_the_finetuned_network_comes_back(champion: nn.Module):
    found = _retrain(champion)
    assert (found.alpha, found.curve) == (1.0, ())
    images, truth = striped_images(40, seed=4, noise=80)
    predicted = predict_images(found.network, images, CLASSES, PREPROCESS)
    assert np.mean([p == t for p, t in zip(predicted.labels, truth, strict=True)]) >= 0.8


def test_a_chosen_ensemble_brings_its_curve_and_stays_near_the_original(champion: nn.Module):
    found = _retrain(champion, ensemble_alpha="choose", val_share=0.2)
    assert [point.alpha for point in found.curve] == pytest.approx(np.linspace(0, 1, 11).tolist())
    assert {frozenset(point.accuracy) for point in found.curve} == {frozenset(["val", "debug_val"])}
    best = max(point.accuracy["debug_val"] for point in found.curve)
    chosen = next(point for point in found.curve if point.alpha == found.alpha)
    floor = found.curve[0].accuracy["val"]
    assert chosen.accuracy["val"] >= floor
    assert chosen.accuracy["debug_val"] == best or any(
        point.accuracy["val"] < floor for point in found.curve
    )


def test_a_fixed_ensemble_is_between(champion: nn.Module):
    half, whole = _retrain(champion, ensemble_alpha=0.5), _retrain(champion)
    name = "layer1.0.conv1.weight"
    middle = 0.5 * (champion.get_parameter(name) + whole.network.get_parameter(name))
    np.testing.assert_allclose(
        half.network.get_parameter(name).detach(), middle.detach(), atol=1e-6
    )
    assert (half.alpha, half.curve) == (0.5, ())


def test_weights_and_held_out_images_change_the_training(champion: nn.Module):
    plain = weights_of(_retrain(champion).network)
    assert weights_of(_retrain(champion, debug_train_weight=0.1).network) != plain
    assert weights_of(_retrain(champion, val_share=0.2).network) != plain
    assert weights_of(_retrain(champion).network) == plain
