"""Compute an OpenVINO graph in int8: NNCF finds the ranges of its activations on real images.

After training and without labels: weights by channel, activations by the range that images show.
The last linear layer stays in fp32.
"""

import logging
import os
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import nn

from dcd.errors import ConfigError, DataError
from dcd.export.formats import Format

CALIBRATION_IMAGES = 300  # NNCF's own default


def check_int8(to: Format) -> None:
    """Raise ConfigError for a format that has no int8 here, DataError without NNCF."""
    if to != "openvino":
        raise ConfigError([f"--int8: is for openvino, found --to {to}"])
    if find_spec("nncf") is None:
        raise DataError(
            "int8: needs nncf, which is not installed; pip install 'data-centric-debugging[int8]'"
        )


def to_int8(path: Path, network: nn.Module, images: np.ndarray) -> None:
    """Replace the graph at `path`, an .xml, and its weights by int8 ones.

    network: what the graph was made of. images: (N, S, S, 3) uint8, as the graph takes them.
    """
    # It looks for CUDA's compiler when it is imported, and tells that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf

    from dcd.encoders import openvino_backend

    logging.getLogger("nncf").setLevel(logging.ERROR)
    given = openvino_backend.read(path)
    # A linear head may weigh faint features a hundred times: rounded they decide the answer.
    heads = [
        part.get_friendly_name()
        for part in given.get_ordered_ops()
        if part.get_type_name() == "MatMul"
    ][-1:]
    with redirect_stdout(sys.stderr):  # where progress belongs
        graph = nncf.quantize(
            given,
            nncf.Dataset([images[i : i + 1] for i in range(len(images))]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if has_attention(network) else None,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=heads),
        )
    # Beside it first: the weights that are read are mapped from the file.
    folder = path.parent / "int8"
    folder.mkdir()
    openvino_backend.save(graph, folder / path.name)
    for file in folder.iterdir():
        os.replace(file, path.parent / file.name)
    folder.rmdir()


def has_attention(network: nn.Module) -> bool:
    """Tell whether a network is a transformer, whose activations NNCF smooths first."""
    return any("attention" in type(part).__name__.lower() for part in network.modules())
