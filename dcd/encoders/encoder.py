"""Load encoders: a network up to its penultimate layer, preprocessing and fingerprint."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcd.config import EncoderConfig
from dcd.encoders.precision import Runtime
from dcd.images.preprocess import Preprocess
from dcd.store import keys

PIXELS = "pixels"  # not a network: the resized image itself, flattened; a baseline


@dataclass(frozen=True)
class Encoder:
    """One encoder, ready to use from any number of threads.

    encoder_id: timm name + hash of weights, preprocessing and precision; one path segment.
    dim: D, the length of an embedding.
    batch_size: how many images a call of `embed` is best given.
    embed: (B, S, S, 3) uint8 → (B, D) float32, the penultimate layer.
    runtime: what it runs on, and in which precision.
    """

    encoder_id: str
    dim: int
    preprocess: Preprocess
    batch_size: int
    embed: Callable[[np.ndarray], np.ndarray]
    runtime: Runtime


_loading = threading.Lock()
_loaded: dict[EncoderConfig, Encoder] = {}


def load_encoder(config: EncoderConfig) -> Encoder:
    """Load the encoder of a config; once per process, compiled at its first batch.

    Raises EncoderError: unknown model, weights that do not fit or cannot be had, a device or
    precision that this machine lacks.
    """
    with _loading:
        if config not in _loaded:
            _loaded[config] = _load_encoder(config)
        return _loaded[config]


def _load_encoder(config: EncoderConfig) -> Encoder:
    from dcd.encoders import backends, weights
    from dcd.encoders.class_token import without_unused_tokens
    from dcd.encoders.network import load_network, preprocess_of, shape_of

    preprocess = preprocess_of(config)
    runtime = backends.resolve(config)
    network = load_network(config)
    shape = shape_of(network, preprocess, config.model)
    batch_size = config.batch_size or backends.default_batch_size(shape.activation_bytes, runtime)
    lean = without_unused_tokens(network)
    runtime, embed = backends.build(lean, preprocess, runtime, batch_size)
    identity = keys.digest(weights.fingerprint(network), preprocess.identity(), runtime.precision)
    return Encoder(
        encoder_id=f"{keys.slug(config.model)}-{identity}",
        dim=shape.dim,
        preprocess=preprocess,
        batch_size=batch_size,
        embed=embed,
        runtime=runtime,
    )
