"""Save and load timm models, and change their classifiers.

A saved model is a folder that timm alone loads: `timm.create_model("local-dir:DIR",
pretrained=True)`.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from dcd.encoders.checkpoint_files import refuse_not_finite
from dcd.errors import EncoderError, EncoderMismatch, LabelError
from dcd.images.preprocess import Preprocess, crop_mode_of
from dcd.scratch import scratch_folder
from dcd.store import Store
from dcd.store.keys import MODEL_CONFIG, MODEL_WEIGHTS
from dcd.tables.labels import label_text
from dcd.training.head import LinearHead


@dataclass(frozen=True)
class SavedModel:
    """A model read back.

    Attributes:
        network: (B, 3, S, S) float32, normalised → (B, C) logits in the order of `classes`.
        classes: C names.
        preprocess: how an image becomes the network's input.
    """

    network: nn.Module
    classes: tuple[str, ...]
    preprocess: Preprocess


def save_model(
    directory: Path,
    network: nn.Module,
    classes: Sequence[str],
    preprocess: Preprocess,
    architecture: str,
) -> None:
    """Write model.safetensors and config.json in timm's form; `directory` is made if missing.

    The config names the classes (label_names) and the preprocessing. An old config is removed
    first and the new one put in place last: a crash leaves no model at all, never a mixed one.
    Raises EncoderError if the network has not one output for each class.
    """
    if network.num_classes != len(classes):
        raise EncoderError(
            f"{directory}: the network has {network.num_classes} outputs for {len(classes)} classes"
        )
    # safetensors takes contiguous tensors only; the caller's network may be channels_last.
    plain = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    pretrained_cfg = {
        "architecture": architecture.partition(".")[0],
        "input_size": (3, preprocess.input_size, preprocess.input_size),
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
        "interpolation": preprocess.interpolation,
        "mean": preprocess.mean,
        "std": preprocess.std,
        "test_input_size": None,
        "test_crop_pct": None,
    }
    model_config = {"label_names": list(classes), "pretrained_cfg": pretrained_cfg}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MODEL_CONFIG).unlink(missing_ok=True)
    with scratch_folder("model", within=directory) as scratch:
        save_for_hf(plain, str(scratch), model_config=model_config, safe_serialization=True)
        for name in (MODEL_WEIGHTS, MODEL_CONFIG):
            os.replace(scratch / name, directory / name)


def load_model(directory: Path) -> SavedModel:
    """Read a folder that `save_model`, or timm, wrote. Weights are safetensors or weights-only.

    Raises EncoderError if the folder holds no such model, or weights that are not finite,
    LabelError if it names no classes.
    """
    try:
        network: Any = timm.create_model(f"local-dir:{directory}", pretrained=True)
    except (FileNotFoundError, RuntimeError, ValueError, KeyError) as err:
        raise EncoderError(
            f"{directory}: cannot be loaded as a timm model: {err}; expected {MODEL_CONFIG} and "
            f"{MODEL_WEIGHTS} as timm saves them"
        ) from err
    refuse_not_finite(network.state_dict(), str(directory))
    cfg = network.pretrained_cfg
    classes = tuple(label_text(name) or "" for name in cfg.get("label_names") or ())
    if len(classes) != network.num_classes:
        raise LabelError(
            f"{directory}/{MODEL_CONFIG}: expected {network.num_classes} label_names, found "
            f"{len(classes)}; list the class names in the order of the outputs"
        )
    preprocess = Preprocess(
        input_size=cfg["input_size"][-1],
        crop_pct=cfg["crop_pct"],
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        mean=(*cfg["mean"],),
        std=(*cfg["std"],),
        crop_mode=crop_mode_of(cfg),
    )
    return SavedModel(network.eval(), classes, preprocess)


def read_model(store: Store, prefix: str) -> SavedModel:
    """Read a model that a run or the gate has kept.

    Args:
        store: where it lies.
        prefix: of its files, such as `champion.model`.

    Raises:
        EncoderError: what lies there is no such model.
        LabelError: it names no classes.
    """
    with scratch_folder("model") as scratch:
        for name in (MODEL_WEIGHTS, MODEL_CONFIG):
            (scratch / name).write_bytes(store.read_bytes(f"{prefix}/{name}"))
        return load_model(scratch)


def with_head(network: nn.Module, head: LinearHead) -> nn.Module:
    """Return a copy of a timm network with `head` as its classifier.

    Raises EncoderMismatch if the head was trained on features of another width, EncoderError if
    there is no classifier to change, or the architecture's is not one linear layer.
    """
    if not hasattr(network, "reset_classifier"):
        raise EncoderError("pixels is no network, so no model can be saved; choose a timm model")
    changed: Any = copy.deepcopy(network)
    changed.reset_classifier(len(head.classes))
    layer = linear_classifier(changed)
    if layer.in_features != head.weight.shape[1]:
        raise EncoderMismatch(
            f"head: trained on {head.weight.shape[1]} features an image, the network's classifier "
            f"takes {layer.in_features}; embed and train with the same model"
        )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
    return changed


def with_classes(model: SavedModel, classes: tuple[str, ...]) -> nn.Module:
    """Return a copy of the model's network that answers for `classes`, in their order.

    Outputs are carried over by name; new classes start with zero weights and the lowest known
    bias, so that they are never predicted before they are trained.
    """
    old = linear_classifier(model.network)
    weight = torch.zeros(len(classes), old.in_features)
    bias = torch.full((len(classes),), old.bias.min().item())
    index = {name: i for i, name in enumerate(model.classes)}
    for row, name in enumerate(classes):
        if name in index:
            weight[row], bias[row] = (
                old.weight.detach()[index[name]],
                old.bias.detach()[index[name]],
            )
    return with_head(model.network, LinearHead(classes, weight.numpy(), bias.numpy()))


def linear_classifier(network: nn.Module) -> nn.Linear:
    """Return a timm network's last layer. Raises EncoderError where it is not one nn.Linear."""
    layer = cast(Any, network).get_classifier()
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise EncoderError(
            f"{type(network).__name__}: expected one linear classifier with bias, found "
            f"{type(layer).__name__}; choose a model without distillation or convolutional heads"
        )
    return layer
