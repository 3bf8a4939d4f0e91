"""What building an index by several workers takes of each: processor seconds, bytes, memory.

    python -m benchmarks.index_shares [--rows N] [--labels L] [--dim D] [--workers 1,2,4]
        [--max-memory-mib M] [--folder DIR] [--json FILE]

A synthetic pool of N embedded images is written in the layout of the store. Its index is built by
one process, then by each number of workers, every step in a process of its own, one after
the other: so processor seconds and bytes count, and no speed-up is measured. The files must
be the same, byte for byte. The memory is divided among the workers, as on one machine.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.selection import in_a_fresh_process
from benchmarks.selection_methods import bytes_read, peak_rss_bytes
from benchmarks.synthetic_pool import ENCODER, PoolSize, make_shards
from dcd.config import IndexConfig, PoolConfig, RunnerConfig
from dcd.index.build import build_index, find_recipe
from dcd.index.shares.begun import BegunIndex, Run
from dcd.index.shares.build import DividedIndex, begin_runs, divide, finish, write_share
from dcd.index.shares.plan import Share, workers_of
from dcd.index.shares.runs import write_run
from dcd.index.sort import sizes_of
from dcd.store import Store, keys

_MIB = 2**20


@dataclass(frozen=True)
class Step:
    """What one step took, in a process of its own; seconds: of processors."""

    workers: int
    step: str
    rows: int
    seconds: float
    bytes_read: int
    peak_rss_bytes: int


def measured(workers: int, step: str, rows: int, work: Callable, *args: object):
    """Run a step in a fresh process; what it returns, and what it took."""
    made, seconds, n_bytes, peak = in_a_fresh_process(_counted, work, *args)
    return made, Step(workers, step, rows, seconds, n_bytes, peak)


def _counted(work: Callable, *args: object):
    cpu, n_bytes = time.process_time(), bytes_read()
    made = work(*args)
    return made, time.process_time() - cpu, bytes_read() - n_bytes, peak_rss_bytes()


def alone(folder: str, size: PoolSize, config: IndexConfig) -> None:
    store = Store(folder)
    build_index(store, size.name, ENCODER, make_shards(store, size), None, config)


def begin(folder: str, size: PoolSize, config: IndexConfig, runner: RunnerConfig) -> BegunIndex:
    store = Store(folder)
    recipe = find_recipe(store, size.name, ENCODER, make_shards(store, size), None, config)
    workers = workers_of(runner, config)
    return begin_runs(store, recipe, config, workers, sizes_of(2 * size.dim))


def sort_shards(folder: str, begun: BegunIndex, run: Run) -> None:
    write_run(Store(folder), begun, run)


def deal_out(folder: str, begun: BegunIndex, n: int, max_memory_bytes: int) -> DividedIndex:
    return divide(Store(folder), begun, n, max_memory_bytes)


def write_files(folder: str, divided: DividedIndex, share: Share) -> None:
    write_share(Store(folder), divided, share)


def end(folder: str, divided: DividedIndex) -> None:
    finish(Store(folder), divided, PoolConfig(images="synthetic"))


def taken_away(folder: str) -> dict[str, str]:
    """Digests of the files of the index, which is deleted."""
    store = Store(folder)
    digests = {}
    for key in store.keys_under(keys.INDEXES):
        with Path(store.path(key)).open("rb") as file:
            digests[key] = hashlib.file_digest(file, "blake2b").hexdigest()
        store.delete(key)
    return digests


def run(args: argparse.Namespace, folder: str) -> list[Step]:
    size = PoolSize(args.rows, args.labels, args.dim)
    config = IndexConfig(max_memory_bytes=args.max_memory_mib * _MIB)
    measured(0, "pool", size.rows, make_shards, Store(folder), size)
    _, step = measured(1, "all", size.rows, alone, folder, size, config)
    steps, expected = [step], taken_away(folder)
    for n in args.workers:
        runner = RunnerConfig(kind="process", max_workers=n)
        begun, step = measured(n, "begin", size.rows, begin, folder, size, config, runner)
        steps.append(step)
        for run in begun.runs:
            rows = sum(shard.n_embedded for shard in run.shards)
            steps.append(measured(n, "sort shards", rows, sort_shards, folder, begun, run)[1])
        memory = config.max_memory_bytes
        divided, step = measured(n, "divide", size.rows, deal_out, folder, begun, n, memory)
        steps.append(step)
        for share in divided.shares:
            step = measured(n, "write files", share.n_rows, write_files, folder, divided, share)[1]
            steps.append(step)
        steps.append(measured(n, "finish", size.rows, end, folder, divided)[1])
        if taken_away(folder) != expected:
            raise SystemExit(f"{n} workers wrote other bytes than one process")
    return steps


def table(steps: list[Step]) -> str:
    """The steps as Markdown."""
    lines = [
        "| workers | step | rows | processor s | read | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for step in steps:
        lines.append(
            f"| {step.workers} | {step.step} | {step.rows:,} | {step.seconds:.1f} "
            f"| {step.bytes_read / _MIB:,.0f} MiB | {step.peak_rss_bytes / _MIB:,.0f} MiB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--workers", type=_numbers, default=[2], help="comma-separated")
    parser.add_argument("--max-memory-mib", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="keep the pool there; default: a scratch")
    parser.add_argument("--json", type=Path, help="write one object a step there")
    args = parser.parse_args()
    if args.folder is not None:
        steps = run(args, str(args.folder))
    else:
        with tempfile.TemporaryDirectory(prefix="dcd-index-shares-") as folder:
            steps = run(args, folder)
    print(table(steps))
    if args.json:
        args.json.write_text(json.dumps([asdict(step) for step in steps], indent=2) + "\n")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
