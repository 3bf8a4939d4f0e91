from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from dcd.errors import EncoderError
from dcd.lpips import load_lpips, lpips_distances, nearest_by_lpips, numbers_per_image
from tests.case import png


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """AlexNet as torchvision's files hold it, with random weights."""
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.device("meta"):
            shapes = alexnet(weights=None).features.state_dict()
        state = {
            f"features.{name}": torch.randn(meta.shape) / max(1, meta[0].numel()) ** 0.5
            for name, meta in shapes.items()
        }
    torch.save(state, path)
    return str(path)


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


def test_reranking_takes_the_nearest_first(backbone: str, images: dict[str, bytes]):
    ranked = nearest_by_lpips(load_lpips(backbone), images["blue0"], [*images.items()], 2)
    assert ranked == ["blue0", "blue1"]


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
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(EncoderError, match="does not fit AlexNet"):
        load_lpips(str(tmp_path / "other.pth"))


def test_the_numbers_of_an_image_are_the_papers():
    assert numbers_per_image(224) == 484_992
