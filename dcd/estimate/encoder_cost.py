"""Count what an encoder costs an image, in numbers, bytes and arithmetic, beside LPIPS.

The paper (Singla et al., arXiv 2211.09859) compares 2,048 numbers of a ResNet-50 with the 484,992
that LPIPS (Zhang et al., CVPR 2018) keeps of AlexNet at 224 pixels: 99.58 % less. Here both are
counted on the networks themselves, without their weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import alexnet

from dcd.config import EncoderConfig
from dcd.encoders.network import preprocess_of
from dcd.errors import EncoderError
from dcd.index.info import IndexInfo
from dcd.store import Store, keys
from dcd.store.errors import explained

MODELS = ("resnet50", "vit_small_patch16_224.dino", "tf_efficientnet_lite0")
LPIPS = "LPIPS (AlexNet)"
_LPIPS_INPUT_SIZE = 224
_HALF_BYTES = 2


@dataclass(frozen=True)
class Cost:
    """What one image costs. bytes: of its numbers as float16. flops: a multiply-add is two.

    less_than_lpips: share of LPIPS's numbers that is saved.
    """

    model: str
    input_size: int
    numbers: int
    bytes: int
    flops: int
    less_than_lpips: float


@dataclass(frozen=True)
class MeasuredBytes:
    """Bytes an image as the files of a store hold it, ids, hashes and labels included.

    index_bytes: with the sample and the directory; per row of the index.
    """

    n_images: int
    embedding_bytes: float
    n_rows: int
    index_bytes: float


def costs(models: Sequence[str] = MODELS) -> list[Cost]:
    """Return the cost of LPIPS, then of the models. Raises EncoderError for an unknown model."""
    lpips_numbers, lpips_flops = _lpips()
    found = [_cost(LPIPS, _LPIPS_INPUT_SIZE, lpips_numbers, lpips_flops, lpips_numbers)]
    for model in models:
        size = preprocess_of(EncoderConfig(model=model)).input_size
        try:
            with torch.device("meta"):
                network = timm.create_model(model.partition(".")[0], num_classes=0).eval()
        except RuntimeError as err:
            raise EncoderError(f"encoder.model: timm cannot make {model!r}: {err}") from err
        numbers, flops = _measure(network, size)
        found.append(_cost(model, size, numbers, flops, lpips_numbers))
    return found


def measured_bytes(store: Store, index: IndexInfo) -> MeasuredBytes:
    """Measure what the embedding files of a pool and the files of one of its indexes take."""
    embeddings = _bytes_under(
        store, keys.embeddings(index.pool, index.encoder_id, "").rpartition("/")[0]
    )
    indexed = sum(
        _bytes_under(store, keys.index(index.pool, index.encoder_id, segment))
        for segment in index.segments
    )
    return MeasuredBytes(
        index.n_images,
        embeddings / max(1, index.n_images),
        index.n_rows,
        indexed / max(1, index.n_rows),
    )


def _cost(model: str, size: int, numbers: int, flops: int, lpips_numbers: int) -> Cost:
    saved = 1 - numbers / lpips_numbers
    return Cost(model, size, numbers, _HALF_BYTES * numbers, flops, saved)


def _measure(network: nn.Module, size: int) -> tuple[int, int]:
    """Numbers of the output and FLOPs, for one image."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        output = network(torch.empty(1, 3, size, size))
    return output.numel(), counter.get_total_flops()


def _lpips() -> tuple[int, int]:
    """LPIPS keeps what AlexNet's five convolutions give after their ReLUs."""
    kept: list[int] = []
    with torch.device("meta"):
        layers = alexnet().features.eval()
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
            layer.register_forward_hook(lambda _, __, output: kept.append(output.numel()))
    last_pool = layers[:-1]  # nothing is kept after the last ReLU
    _, flops = _measure(last_pool, _LPIPS_INPUT_SIZE)
    return sum(kept), flops


def _bytes_under(store: Store, prefix: str) -> int:
    with explained(store.uri(prefix), "list"):
        found = store.fs.find(store.path(prefix), detail=True)
    return sum(info["size"] for info in found.values())
