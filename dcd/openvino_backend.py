"""A network as an OpenVINO graph on the CPU. The only module that imports openvino."""

import queue
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from dcd.errors import EncoderError
from dcd.images import Preprocess

# OpenVINO reports its use over the network from its import on, unless it finds no reporter.
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]

import openvino as ov  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402


def has_bf16() -> bool:
    """Whether this CPU computes in bf16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def embed_with(
    network: nn.Module, preprocess: Preprocess, use_bf16: bool, n_streams: int
) -> Callable[[np.ndarray], np.ndarray]:
    """(B, S, S, 3) uint8 → (B, D) float32, thread-safe; any B without compiling again.

    One single-threaded stream a core: batches run side by side without waiting for each other,
    which measured faster than one batch over all cores, and leaves the gaps to decoding.
    Raises EncoderError if OpenVINO cannot express the network.
    """
    compiled = _core().compile_model(
        _graph(network, preprocess),
        "CPU",
        {
            "NUM_STREAMS": n_streams,
            "INFERENCE_NUM_THREADS": n_streams,
            "INFERENCE_PRECISION_HINT": "bf16" if use_bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # other processes share these cores
        },
    )
    idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
    for _ in range(n_streams):
        idle.put(compiled.create_infer_request())

    def embed(images: np.ndarray) -> np.ndarray:
        request = idle.get()
        try:
            request.infer([images], share_inputs=True)
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        finally:
            idle.put(request)

    return embed


@lru_cache(maxsize=1)
def _core() -> ov.Core:
    return ov.Core()


def _graph(network: nn.Module, preprocess: Preprocess) -> ov.Model:
    """The traced network behind its normalisation, with a dynamic batch dimension."""
    size = preprocess.input_size
    example = torch.zeros(2, 3, size, size)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # tracing is deprecated, but what OpenVINO reads
            # Traced here, because convert_model would check the trace with two more runs.
            model = ov.convert_model(torch.jit.trace(network, example, check_trace=False))
    except RuntimeError as err:
        raise EncoderError(
            f"{type(network).__name__}: OpenVINO cannot convert this network; "
            f"set encoder.backend to torch ({str(err).strip().splitlines()[0]})"
        ) from err
    model.reshape([-1, 3, size, size])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    pixels = steps.input().preprocess().convert_element_type(ov.Type.f32)
    pixels.mean([255 * value for value in preprocess.mean])
    pixels.scale([255 * value for value in preprocess.std])
    return steps.build()
