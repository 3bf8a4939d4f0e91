"""One reader for the checkpoints of every trainer, at every door that takes weights."""

import argparse
import collections
import datetime
import io
import pathlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcd.config import DataConfig, EncoderConfig, StartConfig
from dcd.embeddings.embed import embed_shard
from dcd.encoders.checkpoint_files import fitted_weights, read_document
from dcd.encoders.encoder import load_encoder
from dcd.encoders.network import checkpoint_words, load_network, preprocess_of
from dcd.errors import EncoderError
from dcd.failures.answers import open_model
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store
from dcd.training.saved_models import save_model
from dcd.training.user_model import load_start

CLASSES = ("cat", "dog", "fox")
State = dict[str, Tensor]


def state_of(seed: int) -> State:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model("test_resnet", num_classes=3)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


WANTED, OTHER = state_of(1), state_of(2)


def under(prefix: str, state: State = WANTED) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


# File names and contents as trainers write them; the wanted weights are somewhere in each.
FORMS: dict[str, dict[str, Any]] = {
    "plain.pth": WANTED,
    "pytorch_model.bin": WANTED,
    "model_best.pth.tar": {
        "epoch": 3,
        "arch": "test_resnet",
        "state_dict": OTHER,
        "state_dict_ema": WANTED,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(71.5),
    },
    "last.ckpt": {
        "state_dict": {**under("model."), "criterion.weight": torch.ones(3)},
        "hyper_parameters": collections.defaultdict(list, when=datetime.timedelta(1)),
        "callbacks": {"best": pathlib.PurePosixPath("a/b")},
    },
    "CHECKPOINT.PT": {"model": under("module._orig_mod.")},
    "odd name 7": {"weights": {"backbone": under("net.")}, "ema": {"decay": torch.tensor(0.9)}},
    "dino.pth": {"student": under("module.", OTHER), "teacher": under("backbone.")},
    "one mapping.ckpt": {"state_dict": {**under("net.", OTHER), **under("ema_net.module.")}},
    "student beside teacher.pt": {**under("student.", OTHER), **under("teacher.")},
    "ema state.pt": {"state_dict": OTHER, "ema_state_dict": WANTED},
    "ema model.pt": {"model": OTHER, "ema_model": under("module.")},
    "swa.pt": {"state_dict": OTHER, "swa_state_dict": {**under("module."), "n": torch.tensor(3)}},
    "compiled blocks.pt": {
        name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in WANTED.items()
    },
    "fsdp.pt": {
        "_fsdp_wrapped_module." + name.replace("bn1.", "_checkpoint_wrapped_module.bn1."): tensor
        for name, tensor in WANTED.items()
    },
}


@pytest.fixture(params=FORMS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    torch.save(FORMS[request.param], path)
    return path


def logits(network: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return network(torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32))


def expected_logits() -> Tensor:
    network = timm.create_model("test_resnet", num_classes=3).eval()
    network.load_state_dict(WANTED)
    return logits(network)


def test_every_door_opens_every_form_and_takes_the_same(file: Path):
    start = StartConfig(model=str(file), architecture="test_resnet", classes=CLASSES)
    assert torch.equal(logits(load_start(start).model.network), expected_logits())
    names = file.parent / "classes.txt"
    names.write_text("\n".join(CLASSES))
    opened = open_model(str(file), "store", None, "test_resnet", names)
    assert torch.equal(logits(opened.network), expected_logits())
    encoder = load_network(EncoderConfig(model="test_resnet", checkpoint=str(file)))
    taken = encoder.state_dict()
    assert all(torch.equal(taken[name], WANTED[name]) for name in taken)


def test_what_is_taken_and_what_is_left_is_said(tmp_path: Path):
    path = tmp_path / "m.pth.tar"
    torch.save(FORMS["model_best.pth.tar"], path)
    words = fitted_weights(str(path), WANTED).words
    n = len(WANTED)
    assert words.startswith(f"{n} of the network's {n} tensors taken from state_dict_ema; left")
    assert f"state_dict ({n} tensors)" in words
    said = checkpoint_words(EncoderConfig(model="test_resnet", checkpoint=str(path)))
    assert said is not None
    assert "2 others there are left (fc.bias, fc.weight)" in said


@pytest.mark.parametrize("name", ["model.safetensors", "weights.bin", "noend"])
def test_safetensors_are_known_by_their_bytes(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(safetensors.torch.save(WANTED))
    assert fitted_weights(str(tmp_path / name), WANTED).state.keys() == WANTED.keys()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_stands_for_its_weights(name: str, tmp_path: Path):
    save: Callable[[State, Path], None] = (
        torch.save if name.endswith(".bin") else safetensors.torch.save_file
    )
    save(WANTED, tmp_path / name)
    assert fitted_weights(f"{tmp_path}/", WANTED).state.keys() == WANTED.keys()


def test_a_file_of_the_old_form_is_read_too(tmp_path: Path):
    path = tmp_path / "old.pth"
    document = {"state_dict": WANTED, "metric": np.float64(3)}
    torch.save(document, path, _use_new_zipfile_serialization=False)
    assert fitted_weights(str(path), WANTED).state.keys() == WANTED.keys()


class _Runs:
    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return io.open, (self.mark, "w")


def test_objects_of_trainers_are_left_out_and_code_is_refused(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    torch.save(FORMS["last.ckpt"], path)
    document: Any = read_document(str(path))
    assert list(document["hyper_parameters"]) == ["when"]
    assert not hasattr(document["callbacks"]["best"], "exists")
    torch.save({"state_dict": WANTED, "args": _Runs(str(tmp_path / "mark"))}, path)
    with pytest.raises(EncoderError, match="could run code and are refused"):
        fitted_weights(str(path), WANTED)
    assert not (tmp_path / "mark").exists()


def test_several_cells_may_read_checkpoints_at_once(tmp_path: Path):
    path = tmp_path / "model_best.pth.tar"
    torch.save(FORMS["model_best.pth.tar"], path)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(read_document, [str(path)] * 32))
    assert len(read) == 32


@pytest.mark.parametrize(
    "data", [b"red\ngreen\nblue\n", b"", b"{}", b"\x80\x02", b"PK\3\4", bytes(64)]
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, data: bytes):
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(EncoderError, match=r"weights|tensors"):
        fitted_weights(str(tmp_path / "c"), WANTED)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_checkpoints_raise_nothing_else(data: st.DataObject):
    sink = io.BytesIO()
    small = {"state_dict": {"fc.bias": torch.zeros(3)}, "epoch": 3}
    torch.save(small, sink, _use_new_zipfile_serialization=data.draw(st.booleans()))
    damaged = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
        file.flush()
        with suppress(EncoderError):
            read_document(file.name)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html>", "HTML or XML"),
        (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes"),
        (b"\x1f\x8b\x08", "packed with gzip"),
        (b"onnx", "no pickle of torch"),
    ],
)
def test_what_a_file_is_instead_is_told(tmp_path: Path, data: bytes, what: str):
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(EncoderError, match=f"not a readable weights file .*{what}"):
        read_document(str(tmp_path / "w.pth"))


def test_weights_in_several_files_are_told(tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"a folder without model\.safetensors or .* several"):
        read_document(str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_at_every_door(tmp_path: Path, value: float):
    """A network of them answers alike whatever it sees, and a run would end without a word."""
    spoilt = {name: tensor.clone() for name, tensor in WANTED.items()}
    spoilt["bn1.weight"][0] = value
    torch.save({"state_dict": spoilt}, tmp_path / "m.pt")
    told = r"1 of its tensors hold NaN or infinite numbers \(bn1\.weight\), as of a training"
    with pytest.raises(EncoderError, match=told):
        load_network(EncoderConfig(model="test_resnet", checkpoint=str(tmp_path / "m.pt")))
    start = {"architecture": "test_resnet", "classes": CLASSES}
    with pytest.raises(EncoderError, match=told):
        load_start(StartConfig(model=str(tmp_path / "m.pt"), **start))
    network = timm.create_model("test_resnet", num_classes=3)
    network.load_state_dict(spoilt)
    preprocess = preprocess_of(EncoderConfig(model="test_resnet"))
    save_model(tmp_path / "f", network, CLASSES, preprocess, "test_resnet")
    with pytest.raises(EncoderError, match=told):
        load_start(StartConfig(model=str(tmp_path / "f")))


def test_a_mask_may_be_infinite(tmp_path: Path):
    masked = WANTED | {"attn_mask": torch.tensor([0.0, float("-inf")])}
    torch.save(masked, tmp_path / "m.pt")
    assert "attn_mask" in fitted_weights(str(tmp_path / "m.pt"), masked).state


def test_a_checkpoint_that_is_written_anew_is_another_encoder(tmp_path: Path):
    """A notebook trains on, and embeds again with the same file."""
    config = EncoderConfig(model="test_resnet", checkpoint=str(tmp_path / "m.pt"), input_size=32)
    torch.save(WANTED, tmp_path / "m.pt")
    first = load_encoder(config)
    assert load_encoder(config) is first
    torch.save(OTHER, tmp_path / "m.pt")
    assert load_encoder(config).encoder_id != first.encoder_id
    shard = Shard("s", "s", "parquet", 0, "e")
    source = Source("own", DataConfig(images="own"))
    with pytest.raises(EncoderError, match="this run began; if its weights changed"):
        embed_shard(Store(str(tmp_path)), source, shard, config, first.encoder_id)
