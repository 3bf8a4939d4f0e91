"""Compute a network in int8: NNCF finds the ranges of its activations on real images.

After training and without labels: weights by channel, activations by the range that images show. A
pool's encoder is quantised once; its graph then lies in the store and *is* the encoder, whatever
machine reads it and however the pool grows. Such a graph is data: OpenVINO reads it, nothing in it
is executed, and the store's checksum is compared before.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dcd.config import EncoderConfig
from dcd.encoders.kept import GRAPH, GRAPH_WEIGHTS
from dcd.encoders.weights_file import content_digest
from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess
from dcd.scratch import scratch_folder
from dcd.store import Store, keys

if TYPE_CHECKING:
    import openvino as ov
    from torch import nn

MISSING = "needs nncf, which is not installed; pip install 'data-centric-debugging[int8]'"

# Raised whenever the same images would give other graphs. Graphs that are there stay.
_FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """What the store tells of an int8 graph, in its own words; the graph lies beside it.

    Attributes:
        encoder_id: with the digests of the graph and of the images that it was calibrated on.
        dim: D, the length of an embedding.
        activation_bytes: of the network's largest layer, for one image, in fp32.
        preprocess: how an image becomes S x S pixels.
        images: digest of the calibration images, in their order.
        n_images: how many they are.
    """

    encoder_id: str
    dim: int
    activation_bytes: int
    preprocess: Preprocess
    images: str
    n_images: int


@dataclass(frozen=True)
class StoredGraph:
    """Where an int8 graph lies: a key of a store."""

    store: Store
    key: str

    def calibration(self) -> Calibration:
        """Read what the object tells of itself."""
        told = self.store.read_metadata(self.key)
        with self.store.reading(self.key):
            fields = json.loads(told["calibration"])
            preprocess = fields["preprocess"]
            lists = {name: tuple(preprocess[name]) for name in ("mean", "std")}
            return Calibration(**(fields | {"preprocess": Preprocess(**(preprocess | lists))}))

    def write_to(self, folder: Path) -> None:
        """Write GRAPH and GRAPH_WEIGHTS into a folder. Raises ObjectUnreadable if damaged."""
        rows = self.store.read_table(self.key).to_pylist()
        found = {row["file"]: row["data"] for row in rows}
        for name in (GRAPH, GRAPH_WEIGHTS):
            (folder / name).write_bytes(found[name])


def has_nncf() -> bool:
    return find_spec("nncf") is not None


def quantized(
    graph: "ov.Model",
    images: np.ndarray,
    transformer: bool,
    left: Sequence[str] = (),
    clip_rare: bool = False,
) -> "ov.Model":
    """Return a graph in int8; the given one stays.

    graph: takes (B, S, S, 3) uint8. images: (N, S, S, 3) uint8, as the graph takes them.
    transformer: smooth activations first (SmoothQuant). left: names of operations that stay as they
    are. clip_rare: cut activations at what the images reach on average, NNCF's own way, rather than
    at what any of them reaches.
    """
    # It looks for CUDA's compiler when it is imported, and tells that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    logging.getLogger("nncf").setLevel(logging.ERROR)
    whole = RangeEstimatorParameters(
        min=StatisticsCollectorParameters(StatisticsType.MIN, AggregatorType.MIN),
        max=StatisticsCollectorParameters(StatisticsType.MAX, AggregatorType.MAX),
    )
    advanced = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=whole)
    with redirect_stdout(sys.stderr):  # where progress belongs
        return nncf.quantize(
            graph,
            nncf.Dataset([images[i : i + 1] for i in range(len(images))]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=list(left)),
            advanced_parameters=None if clip_rare else advanced,
        )


def has_attention(network: "nn.Module") -> bool:
    """Tell whether a network is a transformer, whose activations NNCF smooths first."""
    return any("attention" in type(part).__name__.lower() for part in network.modules())


def placed(config: EncoderConfig, store_url: str, pool: str) -> EncoderConfig:
    """Return the config with the place of its int8 graph: in the store, for a pool.

    Others, and those that name a place already, stay as they are.
    """
    if config.precision != "int8" or config.calibration is not None:
        return config
    return config.model_copy(
        update={"calibration": f"{store_url.rstrip('/')}/{keys.calibrations(pool)}"}
    )


def stored_graph(config: EncoderConfig) -> StoredGraph | None:
    """Find the graph of a config that `placed` made; None where none was made yet.

    Of several that machines made at the same time the first one counts, for all of them.
    """
    store, prefix = _place(config)
    written = store.published_at(prefix)
    if not written:
        return None
    return StoredGraph(store, min(written, key=lambda key: (written[key], key)))


def make_graph(config: EncoderConfig, images: np.ndarray, images_digest: str) -> StoredGraph:
    """Quantise the network of a config and put its graph into the store.

    images: (N, S, S, 3) uint8, the encoder's input of calibration images. images_digest: tells them
    from others.
    Returns the graph that counts: another one, if another machine was faster.
    """
    import pyarrow as pa

    from dcd.encoders import openvino_backend
    from dcd.encoders.class_token import without_unused_tokens
    from dcd.encoders.network import load_network, preprocess_of, shape_of
    from dcd.tables import schemas

    preprocess, network = preprocess_of(config), load_network(config)
    shape = shape_of(network, preprocess, config.model)
    graph = openvino_backend.convert(without_unused_tokens(network), preprocess)
    with scratch_folder("int8") as scratch:
        made = quantized(graph, images, has_attention(network))
        openvino_backend.name_by_place(made)
        openvino_backend.save(made, scratch / GRAPH)
        files = {name: (scratch / name).read_bytes() for name in (GRAPH, GRAPH_WEIGHTS)}
    graph_digest = hashlib.blake2b(b"".join(files.values()), digest_size=16).hexdigest()[:12]
    identity = keys.digest(graph_digest, images_digest, preprocess.identity(), "int8")
    told = Calibration(
        encoder_id=f"{keys.slug(config.model)}-{identity}",
        dim=shape.dim,
        activation_bytes=shape.activation_bytes,
        preprocess=preprocess,
        images=images_digest,
        n_images=len(images),
    )
    table = pa.table(
        {"file": list(files), "data": list(files.values())}, schema=schemas.CALIBRATION
    )
    store, prefix = _place(config)
    key = f"{prefix}/{graph_digest}.parquet"
    store.write_table(key, table, metadata={"calibration": json.dumps(asdict(told))})
    found = stored_graph(config)
    if found is None or found.key == key:
        return StoredGraph(store, key)
    store.delete(key)
    return found


def _place(config: EncoderConfig) -> tuple[Store, str]:
    """The store and the prefix of the graphs of a config's network."""
    if config.calibration is None:
        raise EncoderError(
            "encoder.precision int8 is calibrated on a pool's images; name the folder of such a "
            "calibration in encoder.calibration"
        )
    url, folder, pool = config.calibration.rstrip("/").rpartition(f"/{keys.CALIBRATIONS}/")
    if not folder or "/" in pool:
        raise EncoderError(
            f"encoder.calibration: {config.calibration} is no calibration of a pool; expected "
            f"STORE/{keys.CALIBRATIONS}/POOL"
        )
    weights: Any = config.checkpoint and content_digest(config.checkpoint)
    decides = [config.model, config.weights, weights, config.input_size, config.crop_pct]
    name = f"{keys.slug(config.model)}-{keys.digest(_FORMAT, decides)}"
    return Store(url), f"{keys.calibrations(pool)}/{name}"
