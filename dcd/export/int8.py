"""Compute an exported OpenVINO graph in int8, its last linear layer excepted."""

import os
from pathlib import Path

import numpy as np
from torch import nn

from dcd.encoders.int8 import MISSING, has_attention, has_nncf, quantized
from dcd.errors import ConfigError, DataError
from dcd.export.formats import Format

CALIBRATION_IMAGES = 300  # NNCF's own default


def check_int8(to: Format) -> None:
    """Raise ConfigError for a format that has no int8 here, DataError without NNCF."""
    if to != "openvino":
        raise ConfigError([f"--int8: is for openvino, found --to {to}"])
    if not has_nncf():
        raise DataError(f"int8: {MISSING}")


def to_int8(path: Path, network: nn.Module, images: np.ndarray) -> None:
    """Replace the graph at `path`, an .xml, and its weights by int8 ones.

    network: what the graph was made of. images: (N, S, S, 3) uint8, as the graph takes them.
    """
    from dcd.encoders import openvino_backend

    given = openvino_backend.read(path)
    # A linear head may weigh faint features a hundred times: rounded they decide the answer.
    heads = [
        part.get_friendly_name()
        for part in given.get_ordered_ops()
        if part.get_type_name() == "MatMul"
    ][-1:]
    # NNCF's own ranges: with these docs/export.md has measured the loss.
    graph = quantized(given, images, has_attention(network), left=heads, clip_rare=True)
    # Beside it first: the weights that are read are mapped from the file.
    folder = path.parent / "int8"
    folder.mkdir()
    openvino_backend.save(graph, folder / path.name)
    for file in folder.iterdir():
        os.replace(file, path.parent / file.name)
    folder.rmdir()
