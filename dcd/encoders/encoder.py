"""Load encoders: a network up to its penultimate layer, preprocessing and fingerprint."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from dcd.config import EncoderConfig
from dcd.encoders.int8 import StoredGraph, placed, stored_graph
from dcd.encoders.kept import GRAPH, KeptEncoder, keep, kept_folder, read_kept
from dcd.encoders.precision import Embed, Precision, Runtime, compiled_when_used
from dcd.encoders.weights_file import version_of
from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess, pixels_need_no_torch
from dcd.scratch import scratch_folder
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
# By config, with the version of a checkpoint that lies on this machine.
_loaded: dict[EncoderConfig, tuple[str | None, Encoder]] = {}


def load_encoder(config: EncoderConfig) -> Encoder:
    """Load the encoder of a config; once per process and checkpoint, compiled at its first batch.

    What an earlier process on this machine has kept needs neither torch nor timm.

    Args:
        config: the section `encoder` of a config.

    Raises:
        EncoderError: unknown model, weights that do not fit or cannot be had, a device or precision
            that this machine lacks, int8 that was not calibrated yet.
    """
    with _loading:
        version = None if config.checkpoint is None else version_of(config.checkpoint)
        if config not in _loaded or _loaded[config][0] != version:
            graph = _int8_graph(config) if config.precision == "int8" else None
            # Once: of a checkpoint it reads every byte.
            folder = kept_folder(config, graph and graph.key)
            encoder = (
                _kept_encoder(folder)
                or (graph and _stored_encoder(config, graph, folder))
                or _new_encoder(config, folder)
            )
            _loaded[config] = version, encoder
        return _loaded[config][1]


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


def load_pool_encoder(config: EncoderConfig, store_url: str, pool: str) -> Encoder:
    """Load the encoder that embeds a pool, `pool` being its id in the store; as `load_encoder`."""
    return load_encoder(placed(config, store_url, pool))


def _int8_graph(config: EncoderConfig) -> StoredGraph:
    found = stored_graph(config)
    if found is None:
        raise EncoderError(
            f"{config.model} in int8: nothing is calibrated in {config.calibration} yet; embed the "
            "pool first, `dcd embed CONFIG`"
        )
    return found


def _stored_encoder(config: EncoderConfig, graph: StoredGraph, folder: Path | None) -> Encoder:
    """Make an encoder of a graph of the store, which is kept at its first batch."""
    from dcd.encoders import backends

    runtime = backends.resolve(config)
    told = graph.calibration()
    batch_size = config.batch_size or backends.default_batch_size(told.activation_bytes, runtime)
    words = None
    if config.checkpoint is not None:
        from dcd.encoders.network import checkpoint_words

        words = checkpoint_words(config)
    kept = KeptEncoder(told.encoder_id, told.dim, batch_size, told.preprocess, runtime, words)

    def compiled() -> Embed:
        from dcd.encoders import openvino_backend

        if folder is not None and pixels_need_no_torch():
            keep(folder, kept, graph.write_to)
        with scratch_folder("int8") as scratch:
            graph.write_to(scratch)
            read = openvino_backend.read(scratch / GRAPH)
            return openvino_backend.embed_with(read, "int8", cores())

    return Encoder(
        encoder_id=told.encoder_id,
        dim=told.dim,
        preprocess=told.preprocess,
        batch_size=batch_size,
        embed=compiled_when_used(compiled),
        runtime=runtime,
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
