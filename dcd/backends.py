"""Where a network runs: OpenVINO or torch on CPUs, torch on CUDA.

Both take uint8 images as they come from the resize and normalise them inside the graph. An
`Embed` may be called from several threads at once: each call is one batch.
"""

import os
import queue
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import openvino as ov
import torch
from openvino.preprocess import PrePostProcessor
from torch import nn

from dcd.config import EncoderConfig
from dcd.errors import EncoderError
from dcd.images import Preprocess

Embed = Callable[[np.ndarray], np.ndarray]  # (B, S, S, 3) uint8 → (B, D) float32

_CPU_BATCH_SIZE = 32


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
    has_bf16 = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
    if config.precision == "bf16" and not has_bf16:
        raise EncoderError(
            f"encoder.precision is bf16, which this {device} lacks; use auto or fp32"
        )
    precision = "bf16" if has_bf16 and config.precision != "fp32" else "fp32"
    return Runtime(backend, device, precision)


def default_batch_size(network: nn.Module, preprocess: Preprocess, runtime: Runtime) -> int:
    """Images a batch: on CPUs more than 32 gains nothing."""
    return _CPU_BATCH_SIZE


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Embed:
    """An `Embed` for the network; it is compiled when the first batch comes."""
    compile_ = _openvino if runtime.backend == "openvino" else _torch
    compiled: list[Embed] = []
    compiling = threading.Lock()

    def embed(images: np.ndarray) -> np.ndarray:
        if not compiled:
            with compiling:
                if not compiled:
                    compiled.append(compile_(network, preprocess, runtime, batch_size))
        return compiled[0](images)

    return embed


@lru_cache(maxsize=1)
def _core() -> ov.Core:
    return ov.Core()


def _cpu_has_bf16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino(
    network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int
) -> Embed:
    """One single-threaded stream a core: batches run side by side, and decoding fits between."""
    size = preprocess.input_size
    example = torch.zeros(2, 3, size, size)
    with warnings.catch_warnings():  # of torch.jit.trace, which the conversion rests on
        warnings.simplefilter("ignore")
        model = ov.convert_model(network, example_input=example, input=[[-1, 3, size, size]])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(
        [255 * value for value in preprocess.mean]
    ).scale([255 * value for value in preprocess.std])
    compiled = _core().compile_model(
        steps.build(),
        "CPU",
        {
            "NUM_STREAMS": cores(),
            "INFERENCE_NUM_THREADS": cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if runtime.precision == "bf16" else "f32",
        },
    )
    idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
    for _ in range(cores() + 1):
        idle.put(compiled.create_infer_request())

    def embed(images: np.ndarray) -> np.ndarray:
        request = idle.get()
        try:
            request.infer([images], share_inputs=True)
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        finally:
            idle.put(request)

    return embed


def _torch(network: nn.Module, preprocess: Preprocess, runtime: Runtime, batch_size: int) -> Embed:
    device = torch.device(runtime.device)
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    model = network.to(device, dtype).to(memory_format=torch.channels_last)  # pyright: ignore
    mean = 255 * torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def embed(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        out = model(((pixels.float() - mean) / std).to(dtype))
        return out.float().cpu().numpy()

    return embed
