"""How fast images become embeddings: this package beside the plain loop, on the same cores.

    python -m benchmarks.embedding [--model NAME …] [--images GLOB] [--n-images N] [--json FILE]
                                   [--precision int8] [--before OLDER_CHECKOUT]

For every encoder four loops run in turn over the same images, each in a process of its own (see
`benchmarks.embedding_loops`): *plain*, the one that most people write; *decode* and *forward*, the
two parts alone; *ours*, end to end from a WebDataset tar to published Parquet tables.

efficiency = ours ÷ ideal. On a CPU both parts need the same cores, so the ideal is the rate of the
sum of their costs, 1 ÷ (1/decode + 1/forward), with every core busy all the time. With a GPU it is
that of a perfect overlap, min(decode, forward).

--precision is that of ours; int8 is calibrated before, on the very images. --before runs the loop
*ours* of another checkout as well, in every round, in its own default precision.

The images are repeated under new names up to --n-images. Weights are random unless a package
bundles them, which makes no difference to speed. A 2 GB tar of the photos: --n-images 20000.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.embedding_loops import Case, Timing, bare_decode, bare_forward, ours, plain
from dcd.config import DataConfig, EncoderConfig
from dcd.embeddings.calibrate import calibrated
from dcd.encoders.encoder import load_encoder
from dcd.encoders.network import preprocess_of
from dcd.encoders.weights import has_bundled
from dcd.errors import DataError
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.sources.source import source_of
from dcd.store import Store
from dcd.threads import cores as n_cores

MODELS = ["vit_small_patch16_224.dino", "resnet50", "tf_efficientnet_lite0"]
PHOTOS = "../shared/data/photos/*.tar"


@dataclass(frozen=True)
class Row:
    """One encoder; rates in images per second of wall-clock time, medians over the rounds."""

    encoder: str
    backend: str
    device: str
    device_name: str
    cores: int
    precision: str
    input_size: int
    n_images: int
    bytes_per_image: int
    plain_per_s: float
    decode_per_s: float
    forward_per_s: float
    images_per_s: float
    efficiency: float
    ratio_to_plain: float
    before_per_s: float | None
    load: float
    peak_rss_bytes: int
    gpu_peak_bytes: int | None
    gpu_busy: float | None


def measure(case: Case, rounds: int, before: Path | None = None) -> Row:
    """All loops in turn, `rounds` times."""
    runtime = load_encoder(case.encoder).runtime
    settled = case.encoder.model_copy(update={"precision": runtime.precision})
    case = replace(case, encoder=settled)
    loops = {"plain": plain, "decode": bare_decode, "forward": bare_forward, "ours": ours}
    if before is not None:
        loops["before"] = partial(ours_of, before)
    loads = []
    timings: dict[str, list[Timing]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            timings[name].append(_in_a_fresh_process(loop, case))
            loads.append(os.getloadavg()[0])
            found = timings[name][-1]
            print(
                f"{case.encoder.model} {name}: {found.n_images / found.wall_s:.1f} images/s, "
                f"{1000 * found.cpu_s / found.n_images:.1f} ms of CPU an image",
                flush=True,
            )
    rate = {
        name: statistics.median(timing.n_images / timing.wall_s for timing in found)
        for name, found in timings.items()
    }
    on_cpu = runtime.device == "cpu"
    both = 1 / (1 / rate["decode"] + 1 / rate["forward"])
    ideal = both if on_cpu else min(rate["decode"], rate["forward"])
    n_images = timings["ours"][0].n_images
    return Row(
        encoder=case.encoder.model,
        backend=runtime.backend,
        device=runtime.device,
        device_name=_cpu_name() if on_cpu else torch.cuda.get_device_name(),
        cores=n_cores(),
        precision=runtime.precision,
        input_size=preprocess_of(case.encoder).input_size,
        n_images=n_images,
        bytes_per_image=Path(case.tar).stat().st_size // n_images,
        plain_per_s=rate["plain"],
        decode_per_s=rate["decode"],
        forward_per_s=rate["forward"],
        images_per_s=rate["ours"],
        efficiency=rate["ours"] / ideal,
        ratio_to_plain=rate["ours"] / rate["plain"],
        before_per_s=rate.get("before"),
        load=statistics.median(loads),
        peak_rss_bytes=max(timing.peak_rss_bytes for timing in timings["ours"]),
        gpu_peak_bytes=max((t.gpu_peak_bytes or 0 for t in timings["ours"]), default=0) or None,
        gpu_busy=timings["ours"][-1].gpu_busy,
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| encoder | runs on | plain/s | decode/s | forward/s | ours/s | efficiency | ÷ plain "
        "| before/s | ÷ before | peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.encoder}, {row.input_size} px | {row.backend} {row.device} {row.precision} "
        f"| {row.plain_per_s:.1f} | {row.decode_per_s:.0f} | {row.forward_per_s:.1f} "
        f"| **{row.images_per_s:.1f}** | {row.efficiency:.2f} | {row.ratio_to_plain:.1f} "
        f"| {_before(row)} | {row.peak_rss_bytes / 2**20:,.0f} MiB |"
        for row in rows
    ]
    return "\n".join(lines)


def _before(row: Row) -> str:
    if row.before_per_s is None:
        return "– | –"
    return f"{row.before_per_s:.1f} | {row.images_per_s / row.before_per_s:.2f}"


def write_tar(images: str, n_images: int, path: Path) -> None:
    """A WebDataset tar of `n_images`: those of the glob, over and over under new names."""
    data = DataConfig(images=images)
    found = [image for shard in list_shards(data) for image in read_shard(shard, data)]
    photos = [image.data for image in found if isinstance(image, RawImage)]
    with tarfile.open(path, "w") as tar:
        for i, photo in enumerate(islice(cycle(photos), n_images)):
            member = tarfile.TarInfo(f"{i:08d}.jpg")
            member.size = len(photo)
            tar.addfile(member, io.BytesIO(photo))


@contextmanager
def tar_of_photos(parser: argparse.ArgumentParser, images: str, n_images: int) -> Iterator[str]:
    """Give the path of such a tar while the block runs; a glob that finds none ends the command."""
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "images.tar"
        try:
            write_tar(images, n_images, tar)
        except DataError as err:
            parser.error(f"--images: {err}")
        yield str(tar)


def encoder_config(model: str, precision: Any = "auto") -> EncoderConfig:
    weights = "bundled" if has_bundled(model) else "random"
    return EncoderConfig(model=model, weights=weights, precision=precision)


def calibrated_on(tar: str, store: str, encoder: EncoderConfig) -> EncoderConfig:
    """The encoder with the place of its int8 graph, if it has one: calibrated on the tar."""
    return calibrated(Store(store), source_of(DataConfig(images=tar)), encoder)


_OURS = """
import json, sys
from dataclasses import asdict
import benchmarks
from benchmarks.embedding import encoder_config
from benchmarks.embedding_loops import Case, ours
found = ours(Case(encoder_config(sys.argv[1]), sys.argv[2], 0, 0))
print(json.dumps([benchmarks.__path__[0], asdict(found)]))
"""


def ours_of(checkout: Path, case: Case) -> Timing:
    """The loop *ours* as another checkout has it, with the packages of this one."""
    done = subprocess.run(
        [sys.executable, "-c", _OURS, case.encoder.model, case.tar],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    path, found = json.loads(done.stdout.splitlines()[-1])
    if not Path(path).is_relative_to(checkout):
        raise DataError(f"--before: {path} was run, which is not in {checkout}")
    return Timing(**found)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _in_a_fresh_process(loop: Callable[[Case], Timing], case: Case) -> Timing:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(loop, case).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--images", default=PHOTOS, help="glob of tars (default: %(default)s)")
    parser.add_argument("--n-images", type=int, default=1000)
    parser.add_argument("--n-plain", type=int, default=320, help="images for the plain loop")
    parser.add_argument("--n-decode", type=int, default=1000, help="images for decoding alone")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--precision", default="auto", choices=["auto", "fp32", "mixed", "bf16", "int8"]
    )
    parser.add_argument("--before", type=Path, help="another checkout, to run its loop too")
    parser.add_argument("--json", type=Path, help="write the rows there")
    args = parser.parse_args()
    with tar_of_photos(parser, args.images, args.n_images) as tar:
        n_decode = min(args.n_images, args.n_decode)
        rows = []
        for model in args.model or MODELS:
            with tempfile.TemporaryDirectory() as store:
                encoder = calibrated_on(tar, store, encoder_config(model, args.precision))
                case = Case(encoder, tar, args.n_plain, n_decode)
                rows.append(measure(case, args.rounds, args.before and args.before.resolve()))
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
