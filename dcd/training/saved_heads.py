"""Save heads, alone or as the classifier of their network, and read them: all without torch.

Alone, instead of fitting them again: what a head is fitted to does not change with the splits that
it is judged on. New failures leave `none`, `whole_pool` and `filtered_pool` as they are, and only
what they predict is new.

With their network, as `dcd.training.saved_models` does: below a new head lies the network of the
last one, so its saved files are taken and only the classifier in them is another.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dcd.encoders.kept import keep_files, read_files
from dcd.store import Store, keys
from dcd.store.keys import MODEL_CONFIG, MODEL_WEIGHTS
from dcd.tables import schemas
from dcd.tables.labels import label_text
from dcd.tables.vectors import from_blobs, to_blobs
from dcd.training.head import LinearHead

log = logging.getLogger(__name__)
_RECORD = "model.json"


def kept_head(store: Store, head_id: str, fit: Callable[[], LinearHead]) -> LinearHead:
    """Return what `fit` gives, called only where no head of that id is kept."""
    key = keys.head(head_id)
    if not store.exists(key):
        store.write_table(key, head_table(fit()))
    return head_of(store.read_table(key))


def head_table(head: LinearHead) -> pa.Table:
    """Make schemas.HEAD: a row for each class."""
    weight = to_blobs(head.weight).cast(pa.binary())
    columns = [pa.array(head.classes), weight, pa.array(head.bias)]
    return pa.Table.from_arrays(columns, schema=schemas.HEAD)


def head_of(table: pa.Table) -> LinearHead:
    """Invert `head_table`."""
    table = schemas.conform(table, schemas.HEAD, "head")
    blobs = table["weight"].combine_chunks()
    weight = from_blobs(blobs, np.float32, len(blobs[0].as_py()))
    # Copies, because torch warns of arrays that cannot be written to.
    bias = table["bias"].to_numpy().copy()
    return LinearHead(tuple(table["class"].to_pylist()), weight.copy(), bias)


def read_head(store: Store, prefix: str) -> LinearHead | None:
    """Read the classifier of a saved model; None where it is not one linear layer with bias."""
    from safetensors.numpy import load

    config = store.read_json(f"{prefix}/{MODEL_CONFIG}")
    name = _classifier(config)
    if name is None:
        return None
    return _head(load(store.read_bytes(f"{prefix}/{MODEL_WEIGHTS}")), config, name)


def keep_model(folder: Path, saved: Path) -> None:
    """Keep the files of a model that `save_model` wrote, in an encoder's folder on this machine.

    Only if written again from their parts they are the same to the bit.
    """
    found = {name: (saved / name).read_bytes() for name in (MODEL_CONFIG, MODEL_WEIGHTS)}
    again = _with_head(found, None)
    if again != found:
        log.info("%s: a model of this kind is always saved by torch", saved)
        return

    def copy(place: Path) -> None:
        for name, data in found.items():
            (place / name).write_bytes(data)

    keep_files(folder, _RECORD, {}, copy)


def save_from_kept(directory: Path, folder: Path, head: LinearHead) -> bool:
    """Write the kept model with another head to a directory; False where none is kept.

    The files are those that `save_model` writes for the same network and head.
    """
    files = read_files(folder, _RECORD)
    if files is None:
        return False
    written = _with_head({file.name: file.read_bytes() for file in files}, head)
    if written is None:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    for name in (MODEL_WEIGHTS, MODEL_CONFIG):
        (directory / name).write_bytes(written[name])
    return True


def _with_head(files: dict[str, bytes], head: LinearHead | None) -> dict[str, bytes] | None:
    """The files of a saved model with another head, or with its own; None where it has none."""
    from safetensors.numpy import load, save

    weights = files[MODEL_WEIGHTS]
    config = json.loads(files[MODEL_CONFIG])
    name = _classifier(config)
    tensors = load(weights)
    own = None if name is None else _head(tensors, config, name)
    if own is None or own.weight.dtype != np.float32:
        return None
    head = head or own
    if head.weight.shape[1] != own.weight.shape[1]:
        return None
    tensors[f"{name}.weight"], tensors[f"{name}.bias"] = head.weight, head.bias
    _count_classes(config, len(head.classes))
    config["label_names"] = list(head.classes)
    described = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    return {
        MODEL_CONFIG: json.dumps(config, indent=2).encode(),
        MODEL_WEIGHTS: save(tensors, described.get("__metadata__")),
    }


def _count_classes(config: Any, n_classes: int) -> None:
    """Write the number of classes wherever the config says it: timm does in up to three places."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name == "num_classes":
                config[name] = n_classes
            _count_classes(value, n_classes)


def _classifier(config: Any) -> str | None:
    """The name of a saved timm model's last layer, where it has exactly one."""
    name = config.get("pretrained_cfg", {}).get("classifier")
    return name if isinstance(name, str) else None


def _head(tensors: dict[str, np.ndarray], config: Any, name: str) -> LinearHead | None:
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    classes = tuple(label_text(label) or "" for label in config.get("label_names") or ())
    if weight is None or bias is None or weight.shape != (len(classes), weight.shape[-1]):
        return None
    return LinearHead(classes, weight, bias)
