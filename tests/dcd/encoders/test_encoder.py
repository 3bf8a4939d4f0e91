"""Encoders: the OpenVINO graph against torch eager, identity, preprocessing, errors."""

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dcd.config import EncoderConfig
from dcd.encoders import openvino_backend
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.encoders.network import load_network, preprocess_of
from dcd.encoders.precision import Precision, cosines
from dcd.errors import EncoderError


def _config(**changes: object) -> EncoderConfig:
    small = {"model": "test_resnet", "weights": "random", "input_size": 48, "precision": "fp32"}
    return EncoderConfig.model_validate({**small, **changes})


def _images(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def _eager(config: EncoderConfig, images: np.ndarray) -> np.ndarray:
    """The plain way: normalise as the weights want it, forward in fp32."""
    preprocess = preprocess_of(config)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        return load_network(config)((pixels - mean) / std).numpy()


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(
    "config",
    [
        _config(),
        _config(model="test_vit"),
        _config(model="test_efficientnet"),
        EncoderConfig(model="pixels", precision="fp32"),
    ],
    ids=lambda config: config.model,
)
def test_backends_agree_with_eager_fp32(config: EncoderConfig, backend: str) -> None:
    config = EncoderConfig.model_validate({**config.model_dump(), "backend": backend})
    encoder = load_encoder(config)
    images = _images(5, encoder.preprocess.input_size)
    found, expected = encoder.embed(images), _eager(config, images)
    assert found.shape == (5, encoder.dim)
    assert found.dtype == np.float32
    assert cosines(found, expected).min() > 0.99999
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def _scenes(n: int, size: int, seed: int = 0) -> np.ndarray:
    """Drawn scenes: a background that fades, shapes upon it in front of each other, some grain."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(n):
        fade = np.linspace(*rng.uniform(30, 220, (2, 3)), num=size)[:, None].repeat(size, axis=1)
        scene = Image.fromarray(fade.astype(np.uint8))
        draw = ImageDraw.Draw(scene)
        for _ in range(rng.integers(3, 12)):
            corner, extent = rng.uniform(-0.2, 0.9, 2) * size, rng.uniform(0.1, 0.6, 2) * size
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape([*corner, *(corner + extent)], fill=tuple(map(int, rng.integers(0, 256, 3))))
        grain = rng.normal(0, rng.uniform(2, 12), (size, size, 3))
        scenes.append(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8))
    return np.stack(scenes)


def test_default_precision_stays_near_fp32() -> None:
    config = EncoderConfig(input_size=64)
    encoder = load_encoder(config)
    images = _scenes(32, 64)
    assert cosines(encoder.embed(images), _eager(config, images)).min() >= 0.999


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_default_precision_is_the_fastest_that_is_near(backend: str) -> None:
    config = _config(precision="auto", backend=backend, device="cpu", crop_pct=0.8)
    found = load_encoder(config).runtime.precision
    assert found == ("bf16" if openvino_backend.has_bf16() else "fp32")


@pytest.mark.skipif(not openvino_backend.has_bf16(), reason="this CPU has no bf16")
def test_mixed_precision_is_nearer_than_bf16() -> None:
    config = EncoderConfig(input_size=50)
    graph = openvino_backend.convert(load_network(config), preprocess_of(config))
    images = _scenes(16, 50)
    exact = _eager(config, images)

    def nearness(precision: Precision) -> float:
        return cosines(openvino_backend.embed_with(graph, precision, 1)(images), exact).min()

    assert nearness("bf16") < 0.999 <= nearness("mixed")
    assert nearness("fp32") > 0.99999  # the graph was not taken apart


def test_a_network_without_early_layers_has_no_mixed_precision() -> None:
    config = EncoderConfig(model="pixels")
    graph = openvino_backend.convert(load_network(config), preprocess_of(config))
    with pytest.raises(EncoderError, match="no early layers"):
        openvino_backend.embed_with(graph, "mixed", 1)


def test_batch_size_does_not_change_an_embedding_beyond_rounding() -> None:
    encoder = load_encoder(_config())
    images = _images(7, 48)
    one_by_one = np.concatenate([encoder.embed(images[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(encoder.embed(images), one_by_one, rtol=1e-4, atol=1e-5)


def test_embed_is_thread_safe() -> None:
    encoder = load_encoder(_config())
    batches = [_images(4, 48, seed) for seed in range(12)]
    alone = [encoder.embed(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(encoder.embed, batches))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_results_outlive_the_next_batch() -> None:
    encoder = load_encoder(_config())
    first = encoder.embed(_images(2, 48, 1))
    copy = first.copy()
    encoder.embed(_images(2, 48, 2))
    np.testing.assert_array_equal(first, copy)


def test_encoder_is_loaded_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        encoders = list(pool.map(load_encoder, [_config() for _ in range(4)]))
    assert len({id(encoder) for encoder in encoders}) == 1


def test_identity_follows_weights_preprocessing_and_precision(tmp_path: Path) -> None:
    state = load_network(_config()).state_dict()
    torch.save(state, tmp_path / "same.pt")
    state["conv1.0.weight"] = state["conv1.0.weight"] + 1e-6
    torch.save(state, tmp_path / "other.pt")
    same = _config(checkpoint=str(tmp_path / "same.pt"))
    other = _config(checkpoint=str(tmp_path / "other.pt"))

    def id_of(config: EncoderConfig) -> str:
        return load_encoder(config).encoder_id

    base = id_of(_config())
    assert base.startswith("test_resnet-")
    assert id_of(same) == base
    assert id_of(_config(batch_size=3)) == base
    others = [other, _config(input_size=64), _config(crop_pct=0.5), _config(model="test_vit")]
    assert len({base, *map(id_of, others)}) == 5


def test_identity_tells_bf16_from_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: True)
    as_bf16 = _config(crop_pct=0.77, precision="bf16", device="cpu")
    as_fp32 = _config(crop_pct=0.77, device="cpu")
    assert load_encoder(as_bf16).encoder_id != load_encoder(as_fp32).encoder_id


def test_identity_is_one_path_segment() -> None:
    encoder = load_encoder(_config(model="test_vit.r160_in1k"))
    assert encoder.encoder_id.startswith("test_vit.r160_in1k-")
    assert "/" not in encoder.encoder_id


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = load_network(_config()).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second = load_network(_config()).state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)


def test_network_with_a_new_head() -> None:
    config = _config()
    body = load_network(config).state_dict()
    network = load_network(config, num_classes=5)
    assert network(torch.zeros(2, 3, 48, 48)).shape == (2, 5)
    for name, tensor in body.items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0)


def test_position_embeddings_follow_the_input_size(tmp_path: Path) -> None:
    large = load_network(_config(model="test_vit", input_size=160)).state_dict()
    torch.save(large, tmp_path / "vit.pt")
    config = _config(model="test_vit", checkpoint=str(tmp_path / "vit.pt"), input_size=64)
    small = load_network(config)
    assert small.state_dict()["pos_embed"].shape == (1, 17, 64)
    assert small(torch.zeros(1, 3, 64, 64)).shape == (1, 64)


def test_preprocessing_belongs_to_the_weights() -> None:
    lite = preprocess_of(EncoderConfig())
    assert (lite.input_size, lite.crop_pct, lite.interpolation) == (224, 0.875, "bicubic")
    assert lite.mean == lite.std == (0.5, 0.5, 0.5)
    dino = preprocess_of(EncoderConfig(model="vit_small_patch16_224.dino"))
    assert dino.mean == (0.485, 0.456, 0.406)
    assert (dino.crop_pct, dino.crop_mode) == (0.9, "center")
    squashed = preprocess_of(EncoderConfig(model="coat_lite_medium_384.in1k"))
    assert squashed.crop_mode == "squash"
    changed = preprocess_of(EncoderConfig(input_size=96, crop_pct=1.0))
    assert (changed.input_size, changed.crop_pct) == (96, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet5O"}, "did you mean resnet50"),
        ({"model": "vit_small_patch16_224.dyno"}, r"vit_small_patch16_224\.dino"),
        ({"device": "cuda"}, "torch sees no CUDA device"),
        ({"precision": "bf16", "device": "cpu"}, "has no bf16"),
        ({"precision": "mixed", "device": "cpu"}, "has no bf16"),
        ({"model": "test_vit", "input_size": 17}, "17 px"),
    ],
)
def test_what_cannot_be_loaded(
    changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EncoderError, match=message):
        load_encoder(_config(**changes))


def test_pixels_have_nothing_to_train() -> None:
    with pytest.raises(EncoderError, match="no network to train"):
        load_network(EncoderConfig(model="pixels"), num_classes=3)


def test_pixels_are_the_image_itself() -> None:
    encoder: Encoder = load_encoder(EncoderConfig(model="pixels", input_size=16, precision="fp32"))
    images = _images(3, 16)
    expected = images.transpose(0, 3, 1, 2).reshape(3, -1) / 255
    np.testing.assert_allclose(encoder.embed(images), expected, atol=1e-6)


def test_openvino_takes_no_argument_of_the_command_for_its_own(monkeypatch, capfd) -> None:
    config = _config(backend="openvino", device="cpu")
    arguments = ["dcd", "run", "config.yaml", "--verbose"]
    monkeypatch.setattr(sys, "argv", arguments)
    openvino_backend.convert(load_network(config), preprocess_of(config))
    assert capfd.readouterr().out == ""
    assert not tracemalloc.is_tracing()
    assert sys.argv is arguments
