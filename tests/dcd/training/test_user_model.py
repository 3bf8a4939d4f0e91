from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from dcd.config import StartConfig
from dcd.errors import EncoderError, LabelError
from dcd.images.preprocess import Preprocess
from dcd.training.saved_models import save_model
from dcd.training.user_model import load_start, start_digest

CLASSES = ("a", "b", "c")


@pytest.fixture
def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=3).eval()


def logits(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32))


def test_a_saved_folder_brings_classes_architecture_and_preprocessing(
    network: torch.nn.Module, tmp_path: Path
):
    preprocess = Preprocess(48, 0.9, "bicubic", (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    save_model(tmp_path, network, CLASSES, preprocess, "test_resnet")
    found = load_start(StartConfig(model=f"{tmp_path}/", input_size=64))
    assert found.architecture == "test_resnet"
    assert found.model.classes == CLASSES
    assert found.model.preprocess.input_size == 64
    assert found.model.preprocess.mean == pytest.approx((0.5,) * 3)
    assert torch.equal(logits(found.model.network), logits(network))


def test_a_weights_file_needs_its_architecture_and_classes(
    network: torch.nn.Module, tmp_path: Path
):
    path = tmp_path / "theirs.pth"
    wrapped = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, path)
    with pytest.raises(EncoderError, match="set architecture beside it"):
        load_start(StartConfig(model=str(path)))
    config = StartConfig(model=str(path), architecture="test_resnet", classes=CLASSES)
    assert torch.equal(logits(load_start(config).model.network), logits(network))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_another_trainer_stands_for_its_weights(
    network: torch.nn.Module, tmp_path: Path, name: str
):
    """As transformers and accelerate save: its config.json says nothing of timm."""
    state = network.state_dict()
    save_file(state, tmp_path / name) if "safe" in name else torch.save(state, tmp_path / name)
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    config = StartConfig(model=str(tmp_path), architecture="test_resnet", classes=CLASSES)
    assert torch.equal(logits(load_start(config).model.network), logits(network))
    assert start_digest(config) is not None


@pytest.mark.parametrize("classes", [("a", "a ", "b"), ("a", " ", "b")])
def test_each_output_has_a_name_of_its_own(network: torch.nn.Module, tmp_path: Path, classes):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    config = StartConfig(model=str(tmp_path / "w.pth"), architecture="test_resnet", classes=classes)
    with pytest.raises(LabelError, match=r"training\.start\.classes: .*output of the model needs"):
        load_start(config)


def test_weights_of_another_number_of_classes_are_refused(network, tmp_path: Path):
    path = tmp_path / "theirs.pt"
    torch.save(network.state_dict(), path)
    config = StartConfig(model=str(path), architecture="test_resnet", classes=("a", "b"))
    with pytest.raises(EncoderError, match="does not fit test_resnet with 2 classes"):
        load_start(config)


def test_a_missing_model_is_named_and_code_is_never_run(tmp_path: Path):
    with pytest.raises(EncoderError, match=r"training\.start: .*nowhere: no such file or folder"):
        load_start(StartConfig(model=str(tmp_path / "nowhere")))
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": print}, path)
    with pytest.raises(EncoderError, match="could run code"):
        load_start(StartConfig(model=str(path), architecture="test_resnet", classes=CLASSES))


def test_the_digest_follows_the_content(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    config = StartConfig(model=str(path))
    path.write_bytes(b"one")
    one = start_digest(config)
    path.write_bytes(b"other")
    assert one != start_digest(config)
    assert start_digest(None) is None
