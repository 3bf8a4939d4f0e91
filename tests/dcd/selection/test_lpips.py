from pathlib import Path

import numpy as np
import pytest
import torch

from dcd.errors import EncoderError
from dcd.images.decode import decode
from dcd.images.preprocess import to_input
from dcd.selection.lpips import PREPROCESS, load_lpips, lpips_vectors
from tests.case import png
from tests.dcd.selection.lpips_reference import lpips_distances
from tests.dcd.selection.lpips_weights import write_alexnet


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_alexnet(tmp_path_factory.mktemp("alexnet") / "alexnet.pth")


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"{label}{i}": png(rng, label, dark=False) for label in ("red", "blue") for i in (0, 1)}


def test_like_colours_are_near_and_an_image_is_itself(backbone: str, images: dict[str, bytes]):
    lpips = load_lpips(backbone)
    found = lpips_distances(lpips, images["red0"], [images[n] for n in ("red0", "red1", "blue0")])
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[0] < found[1] < found[2]
    assert lpips_distances(lpips, images["red0"], []).shape == (0,)


def test_distances_are_those_of_the_papers_equation(backbone: str, images: dict[str, bytes]):
    network = load_lpips(backbone).features
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    of_two = []
    for name in ("red0", "blue0"):
        pixels = to_input(decode(images[name]), PREPROCESS)
        x = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std)[None]
        layers = []
        for layer in network:
            x = layer(x).detach().clone()
            if isinstance(layer, torch.nn.ReLU):
                layers.append(torch.nn.functional.normalize(x[0], dim=0))
        of_two.append(layers)
    expected = sum(((a - b) ** 2).sum(0).mean() for a, b in zip(*of_two, strict=True))
    found = lpips_distances(load_lpips(backbone), images["red0"], [images["blue0"]])
    assert found == pytest.approx([float(expected)], rel=1e-4)


def test_the_digest_is_that_of_the_numbers(backbone: str, tmp_path: Path):
    digest = load_lpips(backbone).digest
    assert load_lpips(write_alexnet(tmp_path / "same.safetensors")).digest == digest
    assert load_lpips(write_alexnet(tmp_path / "other.pth", seed=1)).digest != digest
    weights = {
        f"lin{i}.model.1.weight": torch.full((1, n, 1, 1), 0.5)
        for i, n in enumerate((64, 192, 384, 256, 256))
    }
    torch.save(weights, tmp_path / "lin.pth")
    assert load_lpips(backbone, str(tmp_path / "lin.pth")).digest != digest


def test_channel_weights_scale_the_layers(backbone: str, images: dict[str, bytes], tmp_path: Path):
    path = str(tmp_path / "lin.pth")
    sizes = (64, 192, 384, 256, 256)
    weights = {f"lin{i}.model.1.weight": torch.full((1, n, 1, 1), 2.0) for i, n in enumerate(sizes)}
    torch.save(weights, path)
    pair = (images["red0"], [images["blue0"]])
    doubled = lpips_distances(load_lpips(backbone, path), *pair)
    assert doubled == pytest.approx(2 * lpips_distances(load_lpips(backbone), *pair), rel=1e-5)
    weights.pop("lin3.model.1.weight")
    torch.save(weights, path)
    with pytest.raises(EncoderError, match="256 channel weights under lin3"):
        load_lpips(backbone, path)


def test_without_the_backbone_it_says_what_is_missing(tmp_path: Path):
    with pytest.raises(EncoderError, match="AlexNet weights are not bundled"):
        load_lpips(None)
    with pytest.raises(EncoderError, match=r"absent\.pth: weights cannot be read"):
        load_lpips(str(tmp_path / "absent.pth"))
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(EncoderError, match="does not fit AlexNet"):
        load_lpips(str(tmp_path / "other.pth"))


def test_the_numbers_of_an_image_are_the_papers(backbone: str):
    black = np.zeros((224, 224, 3), np.uint8)
    assert lpips_vectors(load_lpips(backbone), [black]).shape == (1, 484_992)
