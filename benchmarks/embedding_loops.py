"""What `benchmarks.embedding` times: four loops over the same images, each in its own process."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset

from dcd.config import DataConfig, EncoderConfig
from dcd.embeddings.embed import embed_images, publish
from dcd.encoders.encoder import load_encoder, load_network, preprocess_of
from dcd.images.decode import decode
from dcd.images.preprocess import to_input
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.store import Store
from dcd.threads import cores

_PLAIN_BATCH_SIZE = 32
_FORWARD_S = 10.0


@dataclass(frozen=True)
class Case:
    """An encoder, a tar of JPEGs, and how many of its images each partial loop takes."""

    encoder: EncoderConfig
    tar: str
    n_plain: int
    n_decode: int


@dataclass(frozen=True)
class Timing:
    """n_images in wall_s, cpu_s over all threads and workers; peak memory of the process."""

    n_images: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


class _Files(Dataset[torch.Tensor]):
    """The plain loop's images: files, opened with Pillow, through timm's transform."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def plain(case: Case) -> Timing:
    """Pillow, timm's transform, a DataLoader with a worker a core, torch eager fp32, batch 32."""
    network = load_network(case.encoder)
    wanted = preprocess_of(case.encoder)
    size = wanted.input_size
    transform = create_transform(
        (3, size, size),
        crop_pct=wanted.crop_pct,
        interpolation=wanted.interpolation,
        mean=wanted.mean,
        std=wanted.std,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        paths = []
        for i, image in enumerate(_images(case, case.n_plain)):
            paths.append(Path(folder) / f"{i:08d}.jpg")
            paths[-1].write_bytes(image.data)
        files = _Files(paths, transform)  # pyright: ignore[reportArgumentType]
        network(torch.zeros(2, 3, size, size, device=device))
        clock = _Clock()
        loader = DataLoader(files, batch_size=_PLAIN_BATCH_SIZE, num_workers=cores())
        vectors = [network(batch.to(device)).cpu() for batch in loader]
        np.save(Path(folder) / "vectors.npy", torch.cat(vectors).numpy())
        return clock.stop(len(paths))


def bare_decode(case: Case) -> Timing:
    """Decoding and resizing alone, one thread a core, from memory."""
    preprocess = preprocess_of(case.encoder)
    images = list(_images(case, case.n_decode))
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def run(image: RawImage) -> None:
            to_input(decode(image.data), preprocess)

        list(pool.map(run, images[:20]))
        clock = _Clock()
        list(pool.map(run, images))
        return clock.stop(len(images))


def bare_forward(case: Case) -> Timing:
    """The forward pass alone, on one decoded batch over and over, one batch a core at a time."""
    encoder = load_encoder(case.encoder)
    size = encoder.preprocess.input_size
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (encoder.batch_size, size, size, 3), dtype=np.uint8)
    encoder.embed(batch)
    with ThreadPoolExecutor(cores()) as pool:

        def run(n_batches: int) -> Timing:
            clock = _Clock()
            for future in [pool.submit(encoder.embed, batch) for _ in range(n_batches)]:
                future.result()
            return clock.stop(n_batches * encoder.batch_size)

        trial = run(2 * cores())
        return run(2 * cores() * max(1, int(_FORWARD_S / trial.wall_s)))


def ours(case: Case) -> Timing:
    """End to end: the tar in, published Parquet tables out; the graph is compiled before."""
    encoder = load_encoder(case.encoder)
    size = encoder.preprocess.input_size
    encoder.embed(np.zeros((encoder.batch_size, size, size, 3), np.uint8))
    data = DataConfig(images=case.tar)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        clock = _Clock()
        (shard,) = list_shards(data)
        embedded = embed_images(shard.name, read_shard(shard, data), encoder)
        stats = publish(store, "pool", encoder.encoder_id, shard, embedded)
        return clock.stop(stats.n_embedded)


def _images(case: Case, n_images: int) -> Iterator[RawImage]:
    data = DataConfig(images=case.tar)
    (shard,) = list_shards(data)
    found = (image for image in read_shard(shard, data) if isinstance(image, RawImage))
    return islice(found, n_images)


class _Clock:
    """Wall and CPU time since it was made, children that ended included."""

    def __init__(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter(), _cpu_s()

    def stop(self, n_images: int) -> Timing:
        wall_s = time.perf_counter() - self.wall_s
        return Timing(n_images, wall_s, _cpu_s() - self.cpu_s, _peak_rss_bytes())


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _peak_rss_bytes() -> int:
    """Peak resident memory of this process; on Linux without what its parent had before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(ln for ln in status.read_text().splitlines() if ln.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
