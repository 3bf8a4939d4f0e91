import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from dcd.config import EncoderConfig
from dcd.encoders.encoder import load_encoder
from dcd.encoders.network import load_network
from dcd.errors import EncoderError, EncoderMismatch, LabelError
from dcd.images.preprocess import CropMode, Preprocess
from dcd.store.keys import MODEL_CONFIG, MODEL_WEIGHTS
from dcd.training.data import TrainingSet
from dcd.training.head import LinearHead, fit_standardizer, probabilities, train_head
from dcd.training.saved_models import (
    load_model,
    save_model,
    with_classes,
    with_head,
)

CLASSES = ("cat", "dog", "eel")
PREPROCESS = Preprocess(64, 0.9, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
ARCHITECTURES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"]


def _network(architecture: str = "test_resnet", n_classes: int = len(CLASSES)) -> Any:
    torch.manual_seed(0)
    size: dict[str, Any] = {"img_size": 64} if "vit" in architecture else {}
    return timm.create_model(architecture, num_classes=n_classes, **size).eval()


def _logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(x)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_timm_alone_loads_a_saved_model(architecture: str, tmp_path: Path):
    network = _network(architecture).to(memory_format=torch.channels_last)
    save_model(tmp_path, network, CLASSES, PREPROCESS, f"{architecture}.some_tag")

    loaded: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(_logits(loaded, x), _logits(network, x))
    assert tuple(loaded.pretrained_cfg["label_names"]) == CLASSES
    found = resolve_model_data_config(loaded, use_test_size=True)
    assert found["input_size"] == (3, 64, 64)
    assert (found["crop_pct"], found["interpolation"]) == (0.9, "bilinear")
    assert (tuple(found["mean"]), tuple(found["std"])) == (PREPROCESS.mean, PREPROCESS.std)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_a_model_comes_back_as_it_went(tmp_path: Path, crop_mode: CropMode):
    network = _network()
    preprocess = replace(PREPROCESS, crop_mode=crop_mode)
    save_model(tmp_path, network, CLASSES, preprocess, "test_resnet")
    model = load_model(tmp_path)
    assert (model.classes, model.preprocess) == (CLASSES, preprocess)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(_logits(model.network, x), _logits(network, x))
    assert sorted(file.name for file in tmp_path.iterdir()) == [MODEL_CONFIG, MODEL_WEIGHTS]


def test_a_crash_while_saving_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_model(tmp_path, _network(), CLASSES, PREPROCESS, "test_resnet")
    renames = []

    def crash_at_second(source: object, target: object, rename=Path.replace) -> None:
        renames.append(target)
        if len(renames) == 2:
            raise KeyboardInterrupt
        rename(Path(str(source)), str(target))

    monkeypatch.setattr("dcd.training.saved_models.os.replace", crash_at_second)
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path, _network(n_classes=2), ("a", "b"), PREPROCESS, "test_resnet")
    with pytest.raises(EncoderError, match="Config file not found"):
        load_model(tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_head_answers_as_the_head_does(architecture: str):
    network = _network(architecture, n_classes=7)
    x = torch.randn(5, 3, 64, 64)
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(x), pre_logits=True).numpy()
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, features.shape[1])).astype(np.float32)
    head = LinearHead(CLASSES, weight, rng.normal(size=3).astype(np.float32))

    answered = _logits(with_head(network, head), x).softmax(1).numpy()
    np.testing.assert_allclose(answered, probabilities(head, features), atol=1e-5)
    assert network.num_classes == 7


def test_a_head_on_served_embeddings_holds_for_the_fp32_network():
    """Trained on the encoder's (perhaps bf16) embeddings, the head must fit the timm model."""
    config = EncoderConfig(input_size=64, batch_size=30)
    encoder = load_encoder(config)
    rng = np.random.default_rng(0)
    target = np.arange(90) % 3
    base = rng.integers(0, 255, (3, 8, 8, 3))
    noisy = np.clip(base[target] + rng.normal(0, 60, (90, 8, 8, 3)), 0, 255).astype(np.uint8)
    images = noisy.repeat(8, axis=1).repeat(8, axis=2)
    batches = np.split(images, range(encoder.batch_size, 90, encoder.batch_size))
    features = np.concatenate([encoder.embed(batch) for batch in batches])
    labels = [CLASSES[i] for i in target]
    head = train_head(
        TrainingSet.of_true_labels(features, labels, CLASSES), fit_standardizer(features), 1e-3
    )

    p = encoder.preprocess
    x = (images / 255 - np.array(p.mean)) / np.array(p.std)
    x = torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)
    served = probabilities(head, features)
    answered = _logits(with_head(load_network(config), head), x).softmax(1).numpy()
    assert (served.argmax(1) == target).mean() > 0.9
    assert (served.argmax(1) == answered.argmax(1)).mean() >= 0.97
    assert np.abs(served - answered).mean() < 0.02


def test_classes_are_mapped_by_name(tmp_path: Path):
    network = _network()
    save_model(tmp_path, network, CLASSES, PREPROCESS, "test_resnet")
    mapped = with_classes(load_model(tmp_path), ("eel", "fox", "cat"))
    x = torch.randn(4, 3, 64, 64)
    before, after = _logits(network, x), _logits(mapped, x)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [2, 0]])


def test_models_that_do_not_fit_are_refused(tmp_path: Path):
    network = _network()
    with pytest.raises(EncoderError, match="3 outputs for 2 classes"):
        save_model(tmp_path, network, ("a", "b"), PREPROCESS, "test_resnet")
    narrow = LinearHead(("a", "b"), np.zeros((2, 5), np.float32), np.zeros(2, np.float32))
    with pytest.raises(EncoderMismatch, match="trained on 5 features"):
        with_head(network, narrow)
    with pytest.raises(EncoderError, match=r"expected config\.json"):
        load_model(tmp_path)
    save_model(tmp_path, network, CLASSES, PREPROCESS, "test_resnet")
    config = json.loads((tmp_path / MODEL_CONFIG).read_text())
    del config["label_names"]
    (tmp_path / MODEL_CONFIG).write_text(json.dumps(config))
    with pytest.raises(LabelError, match="expected 3 label_names, found 0"):
        load_model(tmp_path)
