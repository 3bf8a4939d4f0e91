"""Where a network runs: OpenVINO or torch on CPUs, torch on CUDA.

All take uint8 images as they come from the resize and normalise them inside the graph. An
`Embed` may be called from several threads at once and with any number of images.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from dcd import openvino_backend, torch_backend
from dcd.config import EncoderConfig
from dcd.errors import EncoderError
from dcd.images import Preprocess

Embed = Callable[[np.ndarray], np.ndarray]  # (B, S, S, 3) uint8 → (B, D) float32

_MAX_BATCH_SIZE = {"cpu": 16, "cuda": 256}  # larger ones gain nothing
_MEMORY_SHARE = 0.25  # of all memory, for the activations of the batches in flight


@dataclass(frozen=True)
class Runtime:
    """What a network runs on, decided for this machine."""

    backend: Literal["openvino", "torch"]
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]


def resolve(config: EncoderConfig) -> Runtime:
    """Settle every "auto". Raises EncoderError for what this machine cannot do."""
    cuda = torch.cuda.is_available()
    device = config.device if config.device != "auto" else ("cuda" if cuda else "cpu")
    if device == "cuda" and not cuda:
        raise EncoderError("encoder.device is cuda, but torch sees no CUDA device; use auto or cpu")
    backend = config.backend
    if backend == "auto":
        backend = "torch" if device == "cuda" else "openvino"
    if backend == "openvino" and device == "cuda":
        raise EncoderError("encoder.backend openvino runs on the CPU; for cuda use torch or auto")
    has_bf16 = torch.cuda.is_bf16_supported() if device == "cuda" else openvino_backend.has_bf16()
    if config.precision == "bf16" and not has_bf16:
        raise EncoderError(f"encoder.precision: this {device} has no bf16; use auto or fp32")
    precision = "bf16" if has_bf16 and config.precision != "fp32" else "fp32"
    return Runtime(backend, device, precision)


def default_batch_size(activation_bytes: int, runtime: Runtime) -> int:
    """The largest power of two whose activations fit the memory, up to where gains end.

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


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Embed:
    """An `Embed` for a headless network; it is compiled when the first batch comes."""
    compiling = threading.Lock()
    compiled: list[Embed] = []

    def embed(images: np.ndarray) -> np.ndarray:
        with compiling:
            if not compiled:
                compiled.append(_compile(network, preprocess, runtime, batch_size))
        return compiled[0](images)

    return embed


def _compile(
    network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> Embed:
    use_bf16 = runtime.precision == "bf16"
    if runtime.backend == "openvino":
        return openvino_backend.embed_with(network, preprocess, use_bf16, n_streams=cores())
    if runtime.device == "cpu":
        return torch_backend.embed_on_cpu(network, preprocess, use_bf16)
    return torch_backend.embed_on_cuda(network, preprocess, use_bf16, batch_size)
