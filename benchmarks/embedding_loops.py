"""What `benchmarks.embedding` times: four loops over the same images, each in its own process."""

import os
import resource
import shutil
import statistics
import subprocess
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
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.encoders.network import load_network, preprocess_of
from dcd.encoders.torch_backend import compiled_on_cuda
from dcd.images.decode_pool import decoded_elsewhere, decoded_here
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.store import Store
from dcd.threads import cores

_PLAIN_BATCH_SIZE = {"cpu": 32, "cuda": 256}
_FORWARD_S = {"cpu": 10.0, "cuda": 3.0}
_LOOK_EVERY_MS = 200
_DECODED_AT_ONCE = 32


@dataclass(frozen=True)
class Case:
    """An encoder, a tar of JPEGs, and how many of its images each partial loop takes."""

    encoder: EncoderConfig
    tar: str
    n_plain: int
    n_decode: int


@dataclass(frozen=True)
class Timing:
    """n_images in wall_s, cpu_s over all threads and workers; peak memory of the process.

    gpu_peak_bytes: what torch held of the GPU's memory at most. gpu_busy: the mean share of time in
    which the GPU ran anything, as its driver says. Both are None on a CPU.
    """

    n_images: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    gpu_peak_bytes: int | None = None
    gpu_busy: float | None = None


class _Files(Dataset[torch.Tensor]):
    """The plain loop's images: files, opened with Pillow, through timm's transform."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def plain(case: Case) -> Timing:
    """Pillow, timm's transform, a DataLoader with a worker a core, torch eager.

    On a CPU fp32 and batches of 32; on CUDA automatic mixed precision (bf16), pinned memory and
    batches of 256.
    """
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
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            network(torch.zeros(_PLAIN_BATCH_SIZE[device], 3, size, size, device=device))
            clock = _Clock()
            loader = DataLoader(
                files,
                batch_size=_PLAIN_BATCH_SIZE[device],
                num_workers=cores(),
                pin_memory=device == "cuda",
            )
            vectors = [network(batch.to(device, non_blocking=True)).cpu() for batch in loader]
            np.save(Path(folder) / "vectors.npy", torch.cat(vectors).float().numpy())
            return clock.stop(len(paths))


def bare_decode(case: Case) -> Timing:
    """Decoding and resizing alone, from memory: a thread a core, before a GPU a process a core."""
    preprocess = preprocess_of(case.encoder)
    photos = [image.data for image in _images(case, case.n_decode)]
    parts = [photos[i : i + _DECODED_AT_ONCE] for i in range(0, len(photos), _DECODED_AT_ONCE)]
    way = decoded_elsewhere if torch.cuda.is_available() else decoded_here
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def run(part: list[bytes]) -> None:
            way(part, preprocess)

        list(pool.map(run, [photos[:5]] * 2 * cores()))
        clock = _Clock()
        list(pool.map(run, parts))
        return clock.stop(len(photos))


def bare_forward(case: Case) -> Timing:
    """The forward pass alone, on one decoded batch over and over.

    On a CPU one batch a core at a time; on CUDA the compiled network on a batch that is there.
    """
    encoder = load_encoder(case.encoder)
    if encoder.runtime.device == "cuda":
        return _forward_on_cuda(case, encoder)
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
        return run(2 * cores() * max(1, int(_FORWARD_S["cpu"] / trial.wall_s)))


def _forward_on_cuda(case: Case, encoder: Encoder) -> Timing:
    network, preprocess = load_network(case.encoder), encoder.preprocess
    model = compiled_on_cuda(network, preprocess, encoder.runtime.precision == "bf16")
    size = preprocess.input_size
    batch = torch.randint(256, (encoder.batch_size, size, size, 3), dtype=torch.uint8).cuda()

    def run(n_batches: int) -> Timing:
        torch.cuda.synchronize()
        clock = _Clock()
        for _ in range(n_batches):
            model(batch)
        torch.cuda.synchronize()
        return clock.stop(n_batches * encoder.batch_size)

    with torch.inference_mode():
        run(5)
        trial = run(20)
        return run(20 * max(1, int(_FORWARD_S["cuda"] / trial.wall_s)))


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
        self._gpu = _GpuWatch() if torch.cuda.is_available() else None
        self.wall_s, self.cpu_s = time.perf_counter(), _cpu_s()

    def stop(self, n_images: int) -> Timing:
        wall_s, cpu_s = time.perf_counter() - self.wall_s, _cpu_s() - self.cpu_s
        if self._gpu is None:
            return Timing(n_images, wall_s, cpu_s, _peak_rss_bytes())
        gpu_peak_bytes, gpu_busy = torch.cuda.max_memory_reserved(), self._gpu.stop()
        return Timing(n_images, wall_s, cpu_s, _peak_rss_bytes(), gpu_peak_bytes, gpu_busy)


class _GpuWatch:
    """Asks the driver several times a second what share of the last moments the GPU was busy.

    In a process of its own: what is measured must not share its interpreter with the watch.
    """

    def __init__(self) -> None:
        asked = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        program = shutil.which("nvidia-smi")
        self._watch = program and subprocess.Popen(
            [program, *asked, f"--loop-ms={_LOOK_EVERY_MS}"], stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> float | None:
        """End the watch; None if nobody could be asked."""
        if not self._watch:
            return None
        self._watch.terminate()
        answers, _ = self._watch.communicate()
        shares = [float(line) / 100 for line in answers.splitlines() if line.strip().isdigit()]
        return statistics.mean(shares) if shares else None


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
