"""Load encoders: a network up to its penultimate layer, preprocessing and fingerprint."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from dcd.config import EncoderConfig
from dcd.encoders.kept import GRAPH, KeptEncoder, keep, kept_folder, read_kept
from dcd.encoders.precision import Embed, Precision, Runtime, compiled_when_used
from dcd.images.preprocess import Preprocess, pixels_need_no_torch
from dcd.store import keys
from dcd.threads import cores

PIXELS = "pixels"  # not a network: the resized image itself, flattened; a baseline


@dataclass(frozen=True)
class Encoder:
    """One encoder, ready to use from any number of threads.

    Attributes:
        encoder_id: timm name + hash of weights, preprocessing and precision; one path segment.
        dim: D, the length of an embedding.
        preprocess: how an image becomes S x S pixels.
        batch_size: how many images a call of `embed` is best given.
        embed: (B, S, S, 3) uint8 → (B, D) float32, the penultimate layer.
        runtime: what it runs on, and in which precision.
    """

    encoder_id: str
    dim: int
    preprocess: Preprocess
    batch_size: int
    embed: Embed
    runtime: Runtime


_loading = threading.Lock()
_loaded: dict[EncoderConfig, Encoder] = {}


def load_encoder(config: EncoderConfig) -> Encoder:
    """Load the encoder of a config; once per process, compiled at its first batch.

    What an earlier process on this machine has kept needs neither torch nor timm.

    Args:
        config: the section `encoder` of a config.

    Raises:
        EncoderError: unknown model, weights that do not fit or cannot be had, a device or precision
            that this machine lacks.
    """
    with _loading:
        if config not in _loaded:
            # Once: of a checkpoint it reads every byte.
            folder = kept_folder(config)
            _loaded[config] = _kept_encoder(folder) or _new_encoder(config, folder)
        return _loaded[config]


def _kept_encoder(folder: Path | None) -> Encoder | None:
    found = None if folder is None else read_kept(folder)
    if folder is None or found is None:
        return None

    def compiled() -> Embed:
        from dcd.encoders import openvino_backend

        graph = openvino_backend.read(folder / GRAPH)
        precision = cast(Precision, found.runtime.precision)
        return openvino_backend.embed_with(graph, precision, cores())

    return Encoder(
        encoder_id=found.encoder_id,
        dim=found.dim,
        preprocess=found.preprocess,
        batch_size=found.batch_size,
        embed=compiled_when_used(compiled),
        runtime=found.runtime,
    )


def _new_encoder(config: EncoderConfig, folder: Path | None) -> Encoder:
    from dcd.encoders import backends, weights
    from dcd.encoders.class_token import without_unused_tokens
    from dcd.encoders.network import load_network, preprocess_of, shape_of

    preprocess = preprocess_of(config)
    runtime = backends.resolve(config)
    network = load_network(config)
    shape = shape_of(network, preprocess, config.model)
    batch_size = config.batch_size or backends.default_batch_size(shape.activation_bytes, runtime)
    lean = without_unused_tokens(network)
    built = backends.build(lean, preprocess, runtime, batch_size)
    precision = built.runtime.precision
    identity = keys.digest(weights.fingerprint(network), preprocess.identity(), precision)
    encoder = Encoder(
        encoder_id=f"{keys.slug(config.model)}-{identity}",
        dim=shape.dim,
        preprocess=preprocess,
        batch_size=batch_size,
        embed=built.embed,
        runtime=built.runtime,
    )
    if folder is None or built.save is None:
        return encoder
    return replace(encoder, embed=_keeping(folder, encoder, config, built.save))


def _keeping(
    folder: Path, encoder: Encoder, config: EncoderConfig, save: Callable[[Path], None]
) -> Embed:
    """Return the encoder's `embed`, which keeps it after its first batch.

    Only where a few pictures get the same pixels without torch, or a rerun would embed others.
    """
    from dcd.encoders.network import checkpoint_words

    keeping = threading.Lock()
    kept = KeptEncoder(
        encoder.encoder_id,
        encoder.dim,
        encoder.batch_size,
        encoder.preprocess,
        encoder.runtime,
        checkpoint_words(config),
    )

    def embed(images: np.ndarray) -> np.ndarray:
        vectors = encoder.embed(images)
        if keeping.acquire(blocking=False) and pixels_need_no_torch():  # never released: once
            keep(folder, kept, lambda place: save(place / GRAPH))
        return vectors

    return embed
