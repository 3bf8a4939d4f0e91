"""Run a network as an OpenVINO graph on the CPU. The only module that imports openvino."""

import queue
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcd.encoders.precision import Embed, Precision
from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess
from dcd.store.errors import brief

# OpenVINO reports its use over the network from its import on, unless it finds no reporter.
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]

import openvino as ov  # noqa: E402
import openvino.opset13 as opset  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402

if TYPE_CHECKING:
    from torch import nn

# OpenVINO makes its table of dtypes at the first array, and lets go of Python's lock meanwhile: two
# threads that show it their first array at once wait for each other for ever. So it is made here.
ov.Type.f32.to_dtype()

_REDUCTION_AT_CUT = 16  # in "mixed" precision, side of the images to side of the feature map


def has_bf16() -> bool:
    """Tell whether this CPU computes in bf16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def convert(network: "nn.Module", preprocess: Preprocess) -> ov.Model:
    """Trace the network behind its normalisation, with a dynamic batch dimension.

    Raises EncoderError if OpenVINO cannot express the network.
    """
    import torch

    size = preprocess.input_size
    example = torch.zeros(2, 3, size, size)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # tracing is deprecated, but what OpenVINO reads
            # Traced here, because convert_model would check the trace with two more runs; as a
            # function, because torch would build a script module of each module, for as long again.
            network.requires_grad_(False)
            traced = torch.jit.trace(lambda images: network(images), example, check_trace=False)
            with _without_arguments():
                model = ov.convert_model(traced)
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


def save(graph: ov.Model, path: Path) -> None:
    """Write a graph as `path`, an .xml, with its weights beside it in fp32, bit by bit.

    Raises OSError if what was written cannot be read again.
    """
    try:
        ov.save_model(graph, str(path), compress_to_fp16=False)
        read(path)
    except RuntimeError as err:
        raise OSError(f"OpenVINO could not write its graph ({brief(err)})") from err


def read(path: Path) -> ov.Model:
    """Read a graph that `save` wrote."""
    return _core().read_model(str(path))


def name_by_place(graph: ov.Model) -> None:
    """Name a graph and its operations by their place, so that equal ones are saved to equal bytes.

    Their own names count all that the process has made.
    """
    graph.set_friendly_name("graph")
    for place, op in enumerate(graph.get_ordered_ops()):
        op.set_friendly_name(f"{op.get_type_name()}_{place}")


@contextmanager
def _without_arguments() -> Iterator[None]:
    """Hide the command's arguments for the block.

    The converter takes a --verbose among them for its own: it prints, and traces all memory.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def embed_with(graph: ov.Model, precision: Precision, n_streams: int) -> Embed:
    """Compile a graph to (B, S, S, 3) uint8 → (B, D) float32, thread-safe; once for any B.

    graph: from `convert`; it is left as it was.

    One single-threaded stream a core: batches run side by side without waiting for each other,
    which measured faster than one batch over all cores, and leaves the gaps to decoding.
    "mixed" computes the early layers in fp32 and the rest in bf16: rounding hurts most where a
    network has few channels, and no later layer brings back what is lost there.
    "int8" takes a graph in int8, and computes in bf16 what is not, where the CPU can.
    Raises EncoderError for "mixed" if the network has no such early layers.
    """
    if precision == "mixed":
        early, late = _split(graph.clone())
        parts = [(early, "f32"), (late, "bf16")]
    else:
        exact = precision == "fp32" or (precision == "int8" and not has_bf16())
        parts = [(graph, "f32" if exact else "bf16")]
    compiled = [_compile(part, computed_in, n_streams) for part, computed_in in parts]
    idle: queue.SimpleQueue[list[ov.InferRequest]] = queue.SimpleQueue()
    for _ in range(n_streams):
        idle.put([part.create_infer_request() for part in compiled])

    def embed(images: np.ndarray) -> np.ndarray:
        requests = idle.get()
        try:
            values = images
            for request in requests:
                request.infer([values], share_inputs=True)
                values = request.get_output_tensor(0).data
            return np.array(values, dtype=np.float32)
        finally:
            idle.put(requests)

    return embed


def _compile(graph: ov.Model, computed_in: str, n_streams: int) -> ov.CompiledModel:
    return _core().compile_model(
        graph,
        "CPU",
        {
            "NUM_STREAMS": n_streams,
            "INFERENCE_NUM_THREADS": n_streams,
            "INFERENCE_PRECISION_HINT": computed_in,
            "ENABLE_CPU_PINNING": False,  # other processes share these cores
        },
    )


@lru_cache(maxsize=1)
def _core() -> ov.Core:
    return ov.Core()


def _split(graph: ov.Model) -> tuple[ov.Model, ov.Model]:
    """Cut a graph in two where its resolution has fallen to 1/16; takes `graph` apart.

    The cut goes through the last of the smallest tensors, (B, C, S/16, S/16), on which all that
    follows depends and on nothing else.
    """
    input_size = graph.input().get_partial_shape()[1].get_length()
    wanted = -(-input_size // _REDUCTION_AT_CUT)
    cuts = [output for output in _waists(graph) if _sides(output) == [wanted, wanted]]
    if not cuts:
        raise EncoderError("this network has no early layers to keep in fp32; use fp32 or bf16")
    cut = min(reversed(cuts), key=lambda output: output.get_partial_shape()[1].get_length())
    followers = list(cut.get_target_inputs())
    waist = opset.parameter(cut.get_partial_shape(), cut.get_element_type())
    for follower in followers:
        follower.replace_source_output(waist.output(0))
    results, inputs = graph.get_results(), graph.get_parameters()
    late = ov.Model(results, [waist], "late layers")  # pyright: ignore[reportGeneralTypeIssues]
    ends = [opset.result(cut)]
    early = ov.Model(ends, inputs, "early layers")  # pyright: ignore[reportGeneralTypeIssues]
    return early, late


def _sides(output: ov.Output) -> list[int]:
    """Height and width of a (B, C, H, W) tensor; empty for any other."""
    shape = output.get_partial_shape()
    if shape.rank.get_length() != 4 or any(side.is_dynamic for side in list(shape)[1:]):
        return []
    return [side.get_length() for side in list(shape)[2:]]


def _waists(graph: ov.Model) -> Iterator[ov.Output]:
    """Outputs on which all later operations depend, and on nothing else that comes of the images.

    In the order of computation; of every tensor it counts the readers still to come.
    """
    pending: dict[tuple[str, int], int] = {}
    of_images: set[str] = set()
    for op in graph.get_ordered_ops():
        sources = [value.get_source_output() for value in op.inputs()]
        live = [source for source in sources if source.get_node().get_friendly_name() in of_images]
        if not live and op.get_type_name() != "Parameter":
            continue
        of_images.add(op.get_friendly_name())
        for source in live:
            key = (source.get_node().get_friendly_name(), source.get_index())
            pending[key] -= 1
            if not pending[key]:
                del pending[key]
        for output in op.outputs():
            if readers := len(output.get_target_inputs()):
                pending[op.get_friendly_name(), output.get_index()] = readers
        if len(pending) == 1 and op.get_output_size() == 1:
            yield op.output(0)
