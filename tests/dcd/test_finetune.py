import io

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderError, LabelError
from dcd.finetune import Epoch, finetune, learning_rate_scale, predict_images
from dcd.images import BadImage, Preprocess

CLASSES = ("horizontal", "vertical")
PREPROCESS = Preprocess(32, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CONFIG = TrainingConfig(mode="full", epochs=4, batch_size=16, learning_rate=3e-3)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny layers gain nothing from threads, and lose a lot where other work fills the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _stripes(n: int, seed: int = 0) -> tuple[list[bytes], list[str]]:
    """Images of noisy stripes, horizontal or vertical."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(n):
        pattern = np.where((np.arange(32) + rng.integers(8)) // 4 % 2, 190, 60)
        grey = np.broadcast_to(pattern, (32, 32)) if i % 2 else pattern[:, None].repeat(32, 1)
        pixels = np.clip(grey + rng.normal(0, 25, (32, 32)), 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        images.append(sink.getvalue())
        labels.append(CLASSES[i % 2])
    return images, labels


def _network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=2, drop_rate=0.1)


def _weights(network: nn.Module) -> bytes:
    return b"".join(t.numpy().tobytes() for t in network.state_dict().values())


def test_finetuning_learns():
    images, labels = _stripes(96)
    network = finetune(_network(), images, labels, CLASSES, PREPROCESS, CONFIG, seed=0)
    fresh, truth = _stripes(40, seed=1)
    predicted = predict_images(network, fresh, CLASSES, PREPROCESS, batch_size=16)
    assert np.mean([p == t for p, t in zip(predicted.labels, truth, strict=True)]) >= 0.9
    assert predicted.confidence.shape == (40,)
    assert not network.training


@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
def test_a_seed_decides_every_bit():
    images, labels = _stripes(32)
    config = CONFIG.model_copy(update={"epochs": 2})
    first = _weights(_finetuned(images, labels, config, 0))
    torch.rand(7)
    assert _weights(_finetuned(images, labels, config, 0)) == first
    assert _weights(_finetuned(images, labels, config, 1)) != first


def _finetuned(images, labels, config, seed) -> nn.Module:
    return finetune(_network(), images, labels, CLASSES, PREPROCESS, config, seed)


def test_progress_is_told_after_every_epoch():
    images, labels = _stripes(40)
    told: list[Epoch] = []
    finetune(_network(), images, labels, CLASSES, PREPROCESS, CONFIG, 0, told.append)
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4]
    assert told[-1].train_loss < told[0].train_loss
    assert told[0].remaining_s > 0 == told[-1].remaining_s


def test_the_learning_rate_warms_up_and_falls_to_zero():
    scales = [learning_rate_scale(step, 100, 10) for step in range(101)]
    assert scales[:10] == sorted(scales[:10])
    assert max(scales) == scales[10] == 1
    assert scales[10:] == sorted(scales[10:], reverse=True)
    assert scales[100] == pytest.approx(0)


def test_predictions_do_not_depend_on_the_batch():
    images, _ = _stripes(10)
    network = _network()
    one = predict_images(network, images, CLASSES, PREPROCESS, batch_size=1)
    all_at_once = predict_images(network, images, CLASSES, PREPROCESS)
    assert one.labels == all_at_once.labels
    np.testing.assert_allclose(one.confidence, all_at_once.confidence, rtol=1e-4)
    assert predict_images(network, [], CLASSES, PREPROCESS).labels == []


def test_what_cannot_be_trained_is_refused():
    images, labels = _stripes(4)

    def train(images: list[bytes], labels: list[str], classes: tuple[str, ...] = CLASSES):
        return finetune(_network(), images, labels, classes, PREPROCESS, CONFIG, 0)

    with pytest.raises(EncoderError, match="2 outputs for 3 classes"):
        train(images, labels, (*CLASSES, "diagonal"))
    with pytest.raises(LabelError, match="diagonal"):
        train(images, ["diagonal", *labels[1:]])
    with pytest.raises(DataError, match="at least 2 images"):
        train(images[:1], labels[:1])
    with pytest.raises(BadImage):
        train([b"not an image", *images[1:]], labels)
