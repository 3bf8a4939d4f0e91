"""What commands cost before they work: CPU seconds and wall-clock, of one checkout or of two.

    python -m benchmarks.starting demo/config.yaml [--before OLDER_CHECKOUT] [--times 5]

Each command is a process of its own; the two checkouts take turns, so that other work on the
machine disturbs both alike. Encoders are kept in a folder of this benchmark (DCD_CACHE). `validate`
comes twice: before anything was embedded, and after a run kept the encoder.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Cost:
    """Medians of one command in one checkout."""

    command: str
    checkout: str
    cpu_s: float
    wall_s: float


def command(checkout: Path, cache: Path, *arguments: str) -> tuple[float, float]:
    """Run `dcd …` of a checkout; its CPU seconds and wall-clock."""
    path = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-P", "-m", "flows", *arguments],
        env=os.environ | {"PYTHONPATH": path, "DCD_CACHE": str(cache)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall_s = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def measured(
    name: str, checkouts: list[Path], cache: Path, arguments: list[str], n_times: int
) -> list[Cost]:
    """Measure one command in every checkout, in turns."""
    seconds = [[command(c, cache, *arguments) for c in checkouts] for _ in range(n_times)]
    return [
        Cost(name, str(c), *(median(turn[i][j] for turn in seconds) for j in (0, 1)))
        for i, c in enumerate(checkouts)
    ]


def kept_by(config: Path, cache: Path) -> None:
    """Load the encoder of a config and embed one picture, which keeps it."""
    code = (
        "import sys, numpy as np; from pathlib import Path; "
        "from dcd.config import load_config; from dcd.encoders.encoder import load_encoder; "
        "of = load_encoder(load_config(Path(sys.argv[1])).encoder); "
        "of.embed(np.zeros((1, of.preprocess.input_size, of.preprocess.input_size, 3), np.uint8))"
    )
    environment = os.environ | {"DCD_CACHE": str(cache)}
    subprocess.run([sys.executable, "-c", code, str(config)], env=environment, check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="of a run, such as that of `make demo`")
    parser.add_argument("--before", type=Path, help="an older checkout, beside this one")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    checkouts = [*filter(None, [args.before]), Path.cwd()]
    config = str(args.config.resolve())
    with tempfile.TemporaryDirectory() as folder:
        cache, store = Path(folder, "cache"), str(Path(folder, "store"))
        costs = measured("--help", checkouts, cache, ["--help"], args.times)
        listed = ["champions", "--store", store]
        costs += measured("champions", checkouts, cache, listed, args.times)
        checked = ["validate", config]
        costs += measured("validate, the first time", checkouts, cache, checked, args.times)
        kept_by(args.config.resolve(), cache)
        costs += measured("validate, after a run", checkouts, cache, checked, args.times)
    print("| command | checkout | CPU s | wall-clock s |\n|---|---|---|---|")
    for cost in costs:
        name = f"`dcd {cost.command}`"
        print(f"| {name} | {cost.checkout} | {cost.cpu_s:.2f} | {cost.wall_s:.2f} |")
    if args.json:
        args.json.write_text(json.dumps([asdict(c) for c in costs], indent=2) + "\n")


if __name__ == "__main__":
    main()
