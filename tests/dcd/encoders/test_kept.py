"""A kept encoder embeds to the same bits, without torch; one that is not whole is not used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcd.config import EncoderConfig
from dcd.encoders import encoder as encoders
from dcd.encoders import kept
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.encoders.kept import kept_folder, read_kept
from dcd.encoders.network import load_network

CONFIG = EncoderConfig(model="test_resnet", weights="random", input_size=64)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_GPU_DRIVERS", ())
    monkeypatch.setattr(encoders, "_loaded", {})
    return tmp_path / "cache"


def loaded(config: EncoderConfig = CONFIG) -> Encoder:
    """As a new process loads it."""
    encoders._loaded.clear()
    return load_encoder(config)


def images(of: Encoder, n: int = 5) -> np.ndarray:
    size = of.preprocess.input_size
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def put_aside(config: EncoderConfig = CONFIG) -> Path:
    first = loaded(config)
    first.embed(images(first))
    folder = kept_folder(config)
    assert folder is not None
    assert read_kept(folder) is not None
    return folder


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_efficientnet", "pixels"])
def test_a_kept_encoder_embeds_to_the_same_bits(model: str, cache: Path):
    config = EncoderConfig(model=model, weights="random", input_size=None)
    first = loaded(config)
    expected = first.embed(images(first))
    folder = kept_folder(config)
    assert folder is not None
    assert read_kept(folder) is not None
    again = loaded(config)
    assert again.embed is not first.embed
    np.testing.assert_array_equal(again.embed(images(again)), expected)
    for name in ("encoder_id", "dim", "preprocess", "batch_size", "runtime"):
        assert getattr(again, name) == getattr(first, name)


_EMBED = """
import sys
from dcd.config import EncoderConfig
from dcd.embeddings.embed import embed_images
from dcd.encoders.encoder import load_encoder
from dcd.sources.records import RawImage
from tests.dcd.sources.hostile import encoded, noise
pictures = [encoded(noise(90, 70 + n), "JPEG") for n in range(9)]
pictures += [encoded(noise(40, 50), "PNG"), b"none"]
config = EncoderConfig(model="test_vit", weights="random")
images = [RawImage(f"i{n}", data, None) for n, data in enumerate(pictures)]
shard = embed_images("s", images, load_encoder(config))
print(hash(str(shard.embeddings.to_pylist())), shard.embeddings.num_rows, shard.rejects.to_pylist())
print(sorted({"torch", "torchvision", "timm", "sklearn"} & sys.modules.keys()))
"""


@pytest.mark.slow
def test_a_rerun_embeds_the_same_without_torch(cache: Path):
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    told = [
        subprocess.run(
            [sys.executable, "-c", _EMBED],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert told[0][0] == told[1][0]
    assert "10 [{" in told[0][0]
    assert told[0][1] == "['timm', 'torch', 'torchvision']"
    assert told[1][1] == "[]"


@pytest.mark.parametrize("file", ["encoder.json", "graph.xml", "graph.bin"])
def test_a_damaged_one_is_made_anew(file: str, cache: Path):
    folder = put_aside()
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    if file != "encoder.json":
        assert read_kept(folder) is None
    again = loaded()
    again.embed(images(again))
    assert read_kept(folder) is not None


def test_a_record_of_something_else_is_made_anew(cache: Path):
    folder = put_aside()
    for record in ("", "[]", "{}", json.dumps({"files": {}}), json.dumps({"files": 1})):
        (folder / "encoder.json").write_text(record)
        assert read_kept(folder) is None


def test_another_checkpoint_in_the_same_place_is_another_encoder(cache: Path, tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    checkpoint = tmp_path / "weights.safetensors"
    config = CONFIG.model_copy(update={"checkpoint": str(checkpoint)})
    ids = set()
    for scale in (1, 2):
        state = {name: t * scale for name, t in load_network(CONFIG).state_dict().items()}
        save_file({name: t.contiguous() for name, t in state.items()}, checkpoint)
        assert torch.is_tensor(state["conv1.0.weight"])
        first = loaded(config)
        first.embed(images(first))
        assert loaded(config).encoder_id == first.encoder_id
        ids.add(first.encoder_id)
    assert len(ids) == 2
    assert len(list((cache / "encoders").iterdir())) == 2


def test_nothing_is_kept_where_a_gpu_may_be_or_nobody_wants_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    assert kept_folder(CONFIG) is not None
    assert kept_folder(CONFIG.model_copy(update={"backend": "torch"})) is None
    monkeypatch.setattr(kept, "_GPU_DRIVERS", ("/dev/null",))
    assert kept_folder(CONFIG) is None
    assert kept_folder(CONFIG.model_copy(update={"device": "cpu"})) is not None
    monkeypatch.setenv("DCD_CACHE", "")
    assert kept_folder(CONFIG.model_copy(update={"device": "cpu"})) is None


def test_a_place_that_cannot_be_written_to_keeps_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    cache.write_text("a file where the folder would be")
    first = loaded()
    assert first.embed(images(first)).shape == (5, first.dim)
    assert "is not kept there" in caplog.text


def test_only_the_last_few_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "_MAX_KEPT", 2)
    folders = [put_aside(CONFIG.model_copy(update={"input_size": size})) for size in (32, 48, 64)]
    assert [folder.exists() for folder in folders] == [False, True, True]
