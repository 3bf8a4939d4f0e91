from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcd.config import EncoderConfig
from dcd.encoders.network import load_network, preprocess_of
from dcd.store import Store
from dcd.training.head import LinearHead
from dcd.training.saved_heads import keep_model, kept_head, read_head, save_from_kept
from dcd.training.saved_models import save_model, with_head


def test_a_head_is_fitted_once_and_kept_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    weight, bias = (
        rng.normal(size=(3, 7)).astype(np.float32),
        np.array([0.1, -1e-30, 3], np.float32),
    )
    head = LinearHead(("b", "a", "c"), weight, bias)
    fits = []

    def fit() -> LinearHead:
        fits.append(1)
        return head

    for _ in range(2):
        found = kept_head(Store(str(tmp_path)), "id", fit)
        assert found.classes == head.classes
        assert found.weight.tobytes() == weight.tobytes()
        assert found.bias.tobytes() == bias.tobytes()
        assert found.bias.flags.writeable  # torch warns of arrays that are not
    kept_head(Store(str(tmp_path)), "other", fit)
    assert len(fits) == 2


def head_of_width(dim: int, classes: tuple[str, ...], seed: int = 0) -> LinearHead:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(len(classes), dim)).astype(np.float32)
    return LinearHead(classes, weight, rng.normal(size=len(classes)).astype(np.float32))


def width_of(config: EncoderConfig) -> int:
    network: Any = load_network(config)
    return network.num_features


def saved_by_torch(folder: Path, config: EncoderConfig, head: LinearHead) -> dict[str, bytes]:
    network = with_head(load_network(config), head)
    save_model(folder, network, head.classes, preprocess_of(config), config.model)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "tf_efficientnet_lite0"])
def test_a_head_below_a_kept_network_is_saved_to_the_same_bytes_as_by_torch(
    model: str, tmp_path: Path
):
    config = EncoderConfig(model=model, weights="random")
    dim = width_of(config)
    kept = tmp_path / "kept"
    assert not save_from_kept(tmp_path / "none", kept, head_of_width(dim, ("a",)))
    first = head_of_width(dim, ("b", "a", "ü"))
    saved_by_torch(tmp_path / "first", config, first)
    keep_model(kept, tmp_path / "first")
    other = head_of_width(dim, ("x", "y", "z", "no", "1.0"), seed=1)
    expected = saved_by_torch(tmp_path / "other", config, other)
    assert save_from_kept(tmp_path / "again", kept, other)
    assert {f.name: f.read_bytes() for f in (tmp_path / "again").iterdir()} == expected
    assert not save_from_kept(tmp_path / "narrow", kept, head_of_width(3, ("x", "y")))
    (kept / "model.safetensors").write_bytes(b"damaged")
    assert not save_from_kept(tmp_path / "damaged", kept, other)


def test_the_head_of_a_saved_model_is_read_to_the_bit(tmp_path: Path):
    config = EncoderConfig(model="test_resnet", weights="random")
    head = head_of_width(width_of(config), ("b", "a"))
    saved_by_torch(tmp_path / "model", config, head)
    found = read_head(Store(str(tmp_path)), "model")
    assert found is not None
    assert found.classes == head.classes
    assert found.weight.tobytes() == head.weight.tobytes()
    assert found.bias.tobytes() == head.bias.tobytes()
