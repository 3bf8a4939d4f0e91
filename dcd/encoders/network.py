"""Make timm networks up to their penultimate layer, with the preprocessing of their weights."""

import logging
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, split_model_name_tag
from torch import Tensor, nn

from dcd.config import EncoderConfig
from dcd.encoders import weights
from dcd.encoders.checkpoint_files import StateDict, fit_names, fitted_weights
from dcd.encoders.encoder import PIXELS
from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess, crop_mode_of

log = logging.getLogger(__name__)
_PIXELS_INPUT_SIZE = 32
_RANDOM_WEIGHTS_SEED = 0


def preprocess_of(config: EncoderConfig) -> Preprocess:
    """Return the preprocessing that belongs to the model's weights, with the config's overrides.

    Loads no weights. Raises EncoderError for an unknown model.
    """
    if config.model == PIXELS:
        size = config.input_size or _PIXELS_INPUT_SIZE
        return Preprocess(size, config.crop_pct or 1.0, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    cfg = _pretrained_cfg(config.model)
    return Preprocess(
        input_size=config.input_size or cfg.input_size[-1],
        crop_pct=config.crop_pct or cfg.crop_pct,
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        mean=_rgb(cfg.mean),
        std=_rgb(cfg.std),
        crop_mode=crop_mode_of({"crop_mode": cfg.crop_mode}),
    )


def load_network(config: EncoderConfig, num_classes: int = 0) -> nn.Module:
    """Load the timm network in fp32 and eval mode.

    It maps (B, 3, S, S) float32 to (B, D), or to (B, num_classes).

    With num_classes the head is new, drawn from torch's global generator; everything below it
    comes from the weights of the config. Raises EncoderError as `load_encoder` does.
    """
    if config.model == PIXELS:
        if num_classes:
            raise EncoderError(f"{PIXELS} has no network to train; choose a timm model")
        return nn.Flatten()
    _pretrained_cfg(config.model)
    source = config.weights
    if source == "auto":
        source = "bundled" if weights.has_bundled(config.model) else "pretrained"
    if config.checkpoint:
        network = _from_checkpoint(config, config.checkpoint)
    elif source == "bundled":
        bundled = weights.read_bundled(config.model, _create(config))
        state = fit_names(bundled, _expected(config))
        network = _with_state(config, state, f"the bundled weights of {config.model}")
    elif source == "pretrained":
        network = _pretrained(config)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_WEIGHTS_SEED)
            network = _create(config)
    if num_classes:
        cast(Any, network).reset_classifier(num_classes)
    return network.eval()


def _pretrained_cfg(model: str) -> PretrainedCfg:
    """What timm knows of a model's weights: input size, normalisation, names of the head."""
    architecture, tag = split_model_name_tag(model)
    if is_model(architecture):
        try:
            cfg = get_pretrained_cfg(model)
        except RuntimeError as err:
            tags = [name for name in timm.list_pretrained() if name.startswith(f"{architecture}.")]
            raise EncoderError(
                f"{model}: timm {timm.__version__} knows no weights '{tag}' of {architecture}; "
                f"choose one of {tags or [architecture]}"
            ) from err
        if cfg is not None:
            return cfg
    near = get_close_matches(architecture, timm.list_models(), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise EncoderError(f"{model}: not a model that timm {timm.__version__} knows{hint}")


def _rgb(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _create(
    config: EncoderConfig, pretrained: bool = False, overlay: dict[str, object] | None = None
) -> nn.Module:
    """A headless network of the config's architecture and input size."""
    fixed = _pretrained_cfg(config.model).fixed_input_size
    size: dict[str, Any] = {"img_size": config.input_size} if fixed and config.input_size else {}
    try:
        return timm.create_model(
            config.model, pretrained, pretrained_cfg_overlay=overlay, num_classes=0, **size
        )
    except (AssertionError, ValueError) as err:
        raise EncoderError(
            f"{config.model}: cannot be built at {config.input_size} px: {err}"
        ) from err


def checkpoint_words(config: EncoderConfig) -> str | None:
    """Say what `load_network` takes of the config's checkpoint and what it leaves; None without."""
    if not config.checkpoint:
        return None
    return fitted_weights(config.checkpoint, _expected(config)).words


def _expected(config: EncoderConfig) -> StateDict:
    with torch.device("meta"):
        return _create(config).state_dict()


def _from_checkpoint(config: EncoderConfig, uri: str) -> nn.Module:
    found = fitted_weights(uri, _expected(config))
    log.info("%s: %s", uri, found.words)
    return _with_state(config, found.state, uri)


def _with_state(config: EncoderConfig, state: StateDict, origin: str) -> nn.Module:
    """The network with these weights; timm's own filter adapts names and position embeddings."""
    heads = _pretrained_cfg(config.model).classifier or ()
    heads = (heads,) if isinstance(heads, str) else heads
    expected = _expected(config)
    fitted = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(tuple(f"{head}." for head in heads))
    }
    # num_classes=0 declares the weights headless, so that timm loads them strictly.
    overlay = {"state_dict": fitted, "num_classes": 0, "label_offset": 0}
    try:
        return _create(config, True, overlay)
    except RuntimeError as err:
        raise EncoderError(
            f"{origin}: does not fit {config.model}: {weights.differences(fitted, expected)}; "
            "give the weights of this architecture, or the architecture of these weights"
        ) from err


def _pretrained(config: EncoderConfig) -> nn.Module:
    try:
        return _create(config, True)
    except (OSError, RuntimeError, ValueError) as err:
        raise EncoderError(
            f"{config.model}: its pretrained weights cannot be had from timm's hub "
            f"({type(err).__name__}: {err}); give a file in "
            "encoder.checkpoint, or choose a bundled model such as tf_efficientnet_lite0"
        ) from err


@dataclass(frozen=True)
class Shape:
    """What one forward pass of one image tells of a network."""

    dim: int
    activation_bytes: int  # of the largest layer


def shape_of(network: nn.Module, preprocess: Preprocess, model: str) -> Shape:
    """Run one image through. Raises EncoderError where no vector an image comes of it."""
    sizes = [0]

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.nbytes)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    size = preprocess.input_size
    try:
        with torch.inference_mode():
            out = network(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as err:
        raise EncoderError(f"{model}: does not take images of {size} px: {err}") from err
    finally:
        for hook in hooks:
            hook.remove()
    if out.ndim != 2:
        raise EncoderError(
            f"{model}: expected one vector an image, found {tuple(out.shape)}; choose another model"
        )
    return Shape(out.shape[1], max(sizes))
