"""Choose where a network runs: OpenVINO or torch on CPUs, torch on CUDA.

All take uint8 images as they come from the resize and normalise them inside the graph. An
`Embed` may be called from several threads at once and with any number of images.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import nn

from dcd.config import EncoderConfig
from dcd.encoders import torch_backend
from dcd.encoders.precision import (
    Embed,
    Precision,
    Runtime,
    compiled_when_used,
    fastest_within_tolerance,
)
from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess
from dcd.threads import cores

_MAX_BATCH_SIZE = {"cpu": 16, "cuda": 256}  # larger ones gain nothing
_MEMORY_SHARE = 0.25  # of all memory, for the activations of the batches in flight


def resolve(config: EncoderConfig) -> Runtime:
    """Turn the config's wishes into a runtime. Raises EncoderError for what cannot be had here."""
    cuda = torch.cuda.is_available()
    device = config.device if config.device != "auto" else ("cuda" if cuda else "cpu")
    if device == "cuda" and not cuda:
        raise EncoderError("encoder.device is cuda, but torch sees no CUDA device; use auto or cpu")
    backend = config.backend
    if backend == "auto":
        backend = "torch" if device == "cuda" else "openvino"
    if backend == "openvino" and device == "cuda":
        raise EncoderError("encoder.backend openvino runs on the CPU; for cuda use torch or auto")
    has_bf16 = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
    if config.precision in ("bf16", "mixed") and not has_bf16:
        raise EncoderError(f"encoder.precision: this {device} has no bf16; use auto or fp32")
    if config.precision in ("mixed", "int8") and backend != "openvino":
        raise EncoderError(
            f"encoder.precision {config.precision} needs the backend openvino, which runs on the "
            "CPU; use auto"
        )
    keeps = has_bf16 or config.precision == "int8"
    return Runtime(backend, device, config.precision if keeps else "fp32")


def default_batch_size(activation_bytes: int, runtime: Runtime) -> int:
    """Return the largest power of two whose activations fit the memory, up to where gains end.

    activation_bytes: of the network's largest layer, for one image. Counts all memory of the
    machine, not what happens to be free: the batch size, and with it the last bits of the
    embeddings, is the same on every run.
    """
    if runtime.device == "cuda":
        memory_bytes, n_in_flight = torch.cuda.get_device_properties(0).total_memory, 1
    else:
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        n_in_flight = cores()
    image_bytes = 4 * n_in_flight * activation_bytes  # a layer's input and output, twice over
    batch_size = _MAX_BATCH_SIZE[runtime.device]
    while batch_size > 1 and batch_size * image_bytes > _MEMORY_SHARE * memory_bytes:
        batch_size //= 2
    return batch_size


@dataclass(frozen=True)
class Built:
    """A network that can embed. save: writes its graph to a path; None where it has none."""

    runtime: Runtime
    embed: Embed
    save: Callable[[Path], None] | None


def build(network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Built:
    """Make an `Embed` of a headless network, compiled when the first batch comes.

    A precision of "auto" is settled here, by a measurement on a few images; see
    `dcd.encoders.precision`.
    """
    compile_for, save = _compiler(network, preprocess, runtime, batch_size)
    if runtime.precision == "auto":
        precision = fastest_within_tolerance(
            compile_for if runtime.backend == "openvino" else _eager(network, preprocess, runtime),
            ("bf16", "mixed") if runtime.backend == "openvino" else ("bf16",),
            preprocess.input_size,
        )
    else:
        precision = runtime.precision
    embed = compiled_when_used(partial(compile_for, precision))
    return Built(replace(runtime, precision=precision), embed, save)


def _cpu_has_bf16() -> bool:
    # OpenVINO takes part of a second to import, and a machine with a GPU never needs it.
    from dcd.encoders import openvino_backend

    return openvino_backend.has_bf16()


def _compiler(
    network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> tuple[Callable[[Precision], Embed], Callable[[Path], None] | None]:
    """What compiles the network for a precision, and what saves its graph, if it has one."""
    if runtime.backend == "openvino":
        from dcd.encoders import openvino_backend

        graph = lru_cache(lambda: openvino_backend.convert(network, preprocess))
        return (
            lambda precision: openvino_backend.embed_with(graph(), precision, cores()),
            lambda path: openvino_backend.save(graph(), path),
        )
    if runtime.device == "cpu":
        return _eager(network, preprocess, runtime), None
    return (
        lambda precision: torch_backend.embed_on_cuda(
            network, preprocess, precision == "bf16", batch_size
        ),
        None,
    )


def _eager(
    network: nn.Module, preprocess: Preprocess, runtime: Runtime
) -> Callable[[Precision], Embed]:
    return lambda precision: torch_backend.embed_eagerly(
        network, preprocess, precision == "bf16", runtime.device
    )
