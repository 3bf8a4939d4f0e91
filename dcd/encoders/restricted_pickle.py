"""Read what torch.save wrote without running any of it, through torch's restricted unpickler.

It builds tensors and containers. In the place of objects that trainers note beside the weights
stand empty ones of our own; whatever else is named in a file is refused.
"""

import argparse
import io
import pickle
import re
import threading
from collections import OrderedDict
from typing import Any

import torch

# Packages whose objects trainers keep beside the weights: settings, metrics, paths.
_NOTED_BY_TRAINERS = re.compile(
    r"^(numpy|pathlib|datetime|collections|enum|omegaconf|pytorch_lightning|lightning|"
    r"lightning_fabric|lightning_utilities|transformers|mmengine|mmcv|yacs|fvcore|detectron2|"
    r"easydict|addict|ml_collections|torch\.torch_version)(\.|$)"
)
_NOT_ALLOWED = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
_MAX_LEFT_OUT = 100

# torch keeps the list of allowed classes for the whole process: the thread that ends first would
# take it from the others.
_allowing = threading.Lock()


class _LeftOut:
    """Stands for an object that a trainer noted beside the weights: nothing of it is kept."""

    def __new__(cls, *_args: object):
        return super().__new__(cls)

    def __init__(self, *_args: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _LeftOutDict:
    """Makes a plain dict in the place of a trainer's own kind."""

    def __new__(cls, *_args: object):
        return OrderedDict()


def unpickled(data: bytes) -> object:
    """Read what torch.save wrote, objects of trainers left out. Raises what torch.load raises."""
    left_out: list[Any] = []  # pairs of a class and the name that it stands for
    while True:
        try:
            with _allowing, torch.serialization.safe_globals([*_HARMLESS, *left_out]):
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as err:
            found = _NOT_ALLOWED.search(str(err))
            if found is None or not _NOTED_BY_TRAINERS.match(found[1]):
                raise
            if len(left_out) == _MAX_LEFT_OUT:
                raise
            left_out.append((_left_out_as(found[1]), found[1]))


def _left_out_as(name: str) -> type:
    """What stands for a class: torch fills plain dicts alone, and compares classes by identity."""
    base = _LeftOutDict if name.lower().endswith("dict") else _LeftOut
    return type(name, (base,), {})


def _dill_type(name: str) -> type:
    if name not in _DILL_TYPES:
        raise pickle.UnpicklingError(f"type {name} is not allowed in a weights file")
    return _DILL_TYPES[name]


_DILL_TYPES: dict[str, type] = {
    "OrderedDict": OrderedDict,
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "set": set,
}

# Inert values that trainers keep beside the weights. The robustness library saves with dill,
# which spells out plain container types through a function of its own.
_HARMLESS = [argparse.Namespace, (_dill_type, "dill._dill._load_type"), *_DILL_TYPES.values()]
