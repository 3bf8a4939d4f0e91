"""How near an encoder's embeddings stay to torch eager in fp32, in the precision it runs in.

    python -m benchmarks.precision [--model NAME …] [--images GLOB] [--input-size S] [--n-images N]

Prints, for the default precision, for bf16 throughout, and for int8 calibrated on the pool that the
images are of: the share of images with a cosine of at
least 0.999 to fp32, the 0.1 % quantile of the cosines, and the in-label recall@20: of an image's
20 nearest neighbours in fp32 among those with its own weak label, the share that is found again.
"""

import argparse
import tempfile
from itertools import islice

import numpy as np
import torch

from dcd.config import DataConfig, EncoderConfig
from dcd.embeddings.calibrate import calibrated
from dcd.encoders.encoder import load_encoder
from dcd.encoders.network import load_network
from dcd.encoders.precision import MIN_COSINE, cosines
from dcd.errors import DataError, EncoderError
from dcd.images.decode import decode
from dcd.images.preprocess import Preprocess, to_input
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.sources.source import source_of
from dcd.store import Store

IMAGES = "../shared/data/cifar10n/pool-*.parquet"
_K = 20
_BATCH_SIZE = 32


def in_label_recall(exact: np.ndarray, found: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of the k nearest in `exact` that are among the k nearest in `found`.

    Labels with at most k images say nothing and are left out; not-a-number if none is left.
    """
    shares = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > _K:
            truth, answer = _nearest(exact[members]), _nearest(found[members])
            pairs = zip(truth, answer, strict=True)
            shares += [len(np.intersect1d(a, b)) / _K for a, b in pairs]
    return float(np.mean(shares)) if shares else float("nan")


def _nearest(vectors: np.ndarray) -> np.ndarray:
    """(N, k): the k nearest others of each row, by l2."""
    x = vectors.astype(np.float64)
    squares = (x * x).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * x @ x.T
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, _K, axis=1)[:, :_K]


def eager(config: EncoderConfig, preprocess: Preprocess, images: np.ndarray) -> np.ndarray:
    """(B, S, S, 3) uint8 → (B, D): torch in fp32, nothing compiled."""
    network = load_network(config)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    with torch.inference_mode():
        batches = torch.from_numpy(images).split(_BATCH_SIZE)
        pixels = ((batch.permute(0, 3, 1, 2).float() / 255 - mean) / std for batch in batches)
        return torch.cat([network(batch) for batch in pixels]).numpy()


def report(config: EncoderConfig, data: DataConfig, images: list[RawImage]) -> None:
    encoder = load_encoder(config)
    pixels = np.stack([to_input(decode(image.data), encoder.preprocess) for image in images])
    labels = np.array([image.weak_label for image in images], str)
    exact = eager(config, encoder.preprocess, pixels)
    size = encoder.preprocess.input_size
    print(f"{config.model}, {size} px, {len(images)} images")
    for precision in ("auto", "bf16", "int8"):
        try:
            asked = config.model_copy(update={"precision": precision})
            with tempfile.TemporaryDirectory() as store:
                found = load_encoder(calibrated(Store(store), source_of(data), asked))
                found.embed(pixels[:1])
        except EncoderError as err:
            print(f"  {precision}: {err}")
            continue
        starts = range(0, len(pixels), _BATCH_SIZE)
        vectors = np.concatenate([found.embed(pixels[i : i + _BATCH_SIZE]) for i in starts])
        vectors = vectors.astype(np.float16).astype(np.float32)  # as they are stored
        near = cosines(vectors, exact)
        print(
            f"  {precision} ({found.runtime.precision}): cosine >= {MIN_COSINE} for "
            f"{np.mean(near >= MIN_COSINE):.2%}, 0.1 % quantile {np.quantile(near, 0.001):.5f}, "
            f"in-label recall@{_K} {in_label_recall(exact, vectors, labels):.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", help="default: tf_efficientnet_lite0")
    parser.add_argument("--checkpoint", help="weights file of the model")
    parser.add_argument("--images", default=IMAGES, help="glob of shards (default: %(default)s)")
    parser.add_argument("--input-size", type=int, help="pixels; default: that of the weights")
    parser.add_argument("--n-images", type=int, default=2000)
    args = parser.parse_args()
    data = DataConfig(images=args.images)
    try:
        found = (image for shard in list_shards(data) for image in read_shard(shard, data))
        images = list(islice((i for i in found if isinstance(i, RawImage)), args.n_images))
    except DataError as err:
        parser.error(f"--images: {err}")
    for model in args.model or ["tf_efficientnet_lite0"]:
        config = EncoderConfig(model=model, checkpoint=args.checkpoint, input_size=args.input_size)
        report(config, data, images)


if __name__ == "__main__":
    main()
