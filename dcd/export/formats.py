"""Write a saved model for a serving runtime, and answer with what was written.

All formats take (N, S, S, 3) uint8 RGB, resized and cropped, and give (N, C) float32 logits:
normalisation is inside. So what is left to a server is noted in one small file.
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from dcd.errors import DataError, EncoderError
from dcd.images.preprocess import Preprocess
from dcd.threads import cores
from dcd.training.saved_models import SavedModel

Format = Literal["onnx", "openvino", "torchscript"]
FORMATS: tuple[Format, ...] = get_args(Format)
INPUT, OUTPUT = "images", "logits"
FILES: dict[Format, str] = {
    "onnx": "model.onnx",
    "openvino": "model.xml",  # and model.bin
    "torchscript": "model.pt",
}
_PACKAGES: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
_ONNX_OPSET = 18
Answer = Callable[[np.ndarray], np.ndarray]


class Normalised(nn.Module):
    """A network behind its normalisation: (N, S, S, 3) uint8 in, (N, C) float32 logits out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.network = network
        mean, std = (
            torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (preprocess.mean, preprocess.std)
        )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        return self.network((pixels - self.mean) / self.std)


def torch_answer(model: SavedModel) -> Answer:
    """Return the model's own answers, by torch in fp32 on the CPU."""
    return _asked(Normalised(model.network, model.preprocess).eval())


def write_format(model: SavedModel, to: Format, folder: Path) -> Path:
    """Write the model below `folder` and return the file that a runtime opens.

    Raises DataError without the packages that the format needs, EncoderError if the format cannot
    express the network.
    """
    _check_packages(to)
    path = folder / FILES[to]
    whole = Normalised(model.network, model.preprocess).eval()
    size = model.preprocess.input_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        match to:
            case "onnx":
                _write_onnx(whole, example, path)
            case "openvino":
                _write_openvino(model, path)
            case _:
                _write_torchscript(whole, example, path)
    except RuntimeError as err:
        reason = str(err).strip().splitlines()[0]
        raise EncoderError(f"{to}: cannot express this network ({reason})") from err
    return path


def open_format(to: Format, path: Path) -> Answer:
    """Open what `write_format` wrote, in the runtime that serves it."""
    match to:
        case "onnx":
            return _onnx_answer(path)
        case "openvino":
            return _openvino_answer(path)
        case _:
            return _torchscript_answer(path)


def _check_packages(to: Format) -> None:
    missing = [name for name in _PACKAGES.get(to, ()) if find_spec(name) is None]
    if missing:
        raise DataError(
            f"{to}: needs {' and '.join(missing)}, which are not installed; "
            "pip install 'data-centric-debugging[onnx]'"
        )


def _write_onnx(whole: nn.Module, example: torch.Tensor, path: Path) -> None:
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # they tell of every pass
        logging.getLogger(name).setLevel(logging.ERROR)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"images": {0: batch}},
            opset_version=_ONNX_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _onnx_answer(path: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _write_openvino(model: SavedModel, path: Path) -> None:
    from dcd.encoders import openvino_backend

    openvino_backend.save(openvino_backend.convert(model.network, model.preprocess), path)


def _openvino_answer(path: Path) -> Answer:
    from dcd.encoders import openvino_backend

    return openvino_backend.embed_with(openvino_backend.read(path), "fp32", 1)


def _write_torchscript(whole: nn.Module, example: torch.Tensor, path: Path) -> None:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch would have torch.export, which servers do not read
        traced = torch.jit.trace(whole, example, check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), str(path))


def _torchscript_answer(path: Path) -> Answer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _asked(torch.jit.load(str(path)))


def _asked(network: nn.Module) -> Answer:
    def answer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return answer
