"""How fast photographs become pixels: threads, processes, and the GPU's own JPEG decoder.

    python -m benchmarks.gpu.decoding [--images GLOB] [--n-images N] [--input-size S] [--json FILE]

*read*: the tar alone, one thread. *threads*: our decoding and resizing, a thread a core, a batch a
task; *processes*: the same through `dcd.images.decode_pool`. *nvjpeg*: torchvision's decoder on the
GPU and our resize there, a batch at a time; with the largest and the mean difference of its pixels
from ours, in levels of 255.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torchvision.io import decode_jpeg
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from benchmarks.embedding import PHOTOS, tar_of_photos
from dcd.config import DataConfig
from dcd.images.decode_pool import Decoded, decoded_elsewhere, decoded_here
from dcd.images.preprocess import Preprocess
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.threads import cores

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Rates:
    """Images per second; None where there is no GPU. Differences in levels of 255."""

    cores: int
    n_images: int
    read_per_s: float
    threads_per_s: float
    processes_per_s: float
    nvjpeg_per_s: float | None
    nvjpeg_max_difference: float | None
    nvjpeg_mean_difference: float | None


def in_batches(photos: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [photos[i : i + _BATCH_SIZE] for i in range(0, len(photos), _BATCH_SIZE)]


def rate(
    way: Callable[[Sequence[bytes], Preprocess], Decoded],
    photos: Sequence[bytes],
    preprocess: Preprocess,
) -> float:
    batches = in_batches(photos)
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def run(batch: Sequence[bytes]) -> int:
            return len(way(batch, preprocess).reasons)

        list(pool.map(run, [batch[:32] for batch in batches[: 2 * cores()]]))
        started = time.perf_counter()
        n_images = sum(pool.map(run, batches))
        return n_images / (time.perf_counter() - started)


def on_gpu(photos: Sequence[bytes], preprocess: Preprocess) -> torch.Tensor:
    """(B, S, S, 3) uint8 on the GPU."""
    size = preprocess.input_size
    side = int(size / preprocess.crop_pct)
    encoded = [torch.frombuffer(bytearray(photo), dtype=torch.uint8) for photo in photos]
    images = decode_jpeg(encoded, device="cuda")
    out = torch.empty(len(photos), size, size, 3, dtype=torch.uint8, device="cuda")
    for i, pixels in enumerate(images):
        height, width = pixels.shape[1:]
        scale = (
            (side, side * width // height) if height <= width else (side * height // width, side)
        )
        small = resize(pixels.float(), list(scale), InterpolationMode.BICUBIC, antialias=True)
        top, left = (round((n - size) / 2) for n in small.shape[1:])
        crop = small[:, top : top + size, left : left + size]
        out[i] = crop.round().clamp(0, 255).byte().permute(1, 2, 0)
    return out


def gpu_rate(photos: Sequence[bytes], preprocess: Preprocess) -> float:
    batches = in_batches(photos)
    on_gpu(batches[0], preprocess)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for batch in batches:
        on_gpu(batch, preprocess)
    torch.cuda.synchronize()
    return len(photos) / (time.perf_counter() - started)


def measure(tar: str, n_images: int, preprocess: Preprocess) -> Rates:
    data = DataConfig(images=tar)
    (shard,) = list_shards(data)
    started = time.perf_counter()
    found = [image.data for image in read_shard(shard, data) if isinstance(image, RawImage)]
    read_per_s = len(found) / (time.perf_counter() - started)
    photos = found[:n_images]
    rates = {}
    for name, way in {"threads": decoded_here, "processes": decoded_elsewhere}.items():
        rates[name] = rate(way, photos, preprocess)
        print(f"{name}: {rates[name]:.0f} images/s", flush=True)
    gpu, far, mean = None, None, None
    if torch.cuda.is_available():
        gpu = gpu_rate(photos[:2048], preprocess)
        sample = photos[:64]
        ours = torch.from_numpy(decoded_here(sample, preprocess).pixels).int()
        difference = (on_gpu(sample, preprocess).cpu().int() - ours).abs().float()
        far, mean = float(difference.max()), float(difference.mean())
    return Rates(
        cores(), len(photos), read_per_s, rates["threads"], rates["processes"], gpu, far, mean
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", default=PHOTOS, help="glob of tars (default: %(default)s)")
    parser.add_argument("--n-images", type=int, default=8192)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--json", type=Path, help="write the rates there")
    args = parser.parse_args()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocess = Preprocess(args.input_size, 0.9, "bicubic", mean, std)
    with tar_of_photos(parser, args.images, args.n_images) as tar:
        found = measure(tar, args.n_images, preprocess)
    print(json.dumps(asdict(found), indent=2))
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
