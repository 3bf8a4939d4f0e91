"""What selecting for a few failing labels costs, beside searches that go over the whole pool.

    python -m benchmarks.selection --rows N --labels L --dim D --failures Q --failing-labels T
        [--k 50] [--methods ours,faiss_flat,…] [--json FILE] [--folder DIR]
    python -m benchmarks.selection --growth 100000,1000000,5000000 --labels L …

A synthetic pool of N embedded images in L labels is written in the layout of the store, and its
index built, each in a process of its own. Then every method finds the k nearest in-label images of
Q failures in T labels. --growth repeats that for pools with as many rows a label as N ÷ L.
Vectors are float16 for all methods, distances l2. --folder keeps the pool for the next run.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.index_bytes import touched_bytes
from benchmarks.selection_methods import METHODS, Case, Ids, make_lance_table, peak_rss_bytes
from benchmarks.synthetic_pool import ENCODER, PoolSize, make_failures, make_shards
from dcd.config import IndexConfig
from dcd.index.build import build_index
from dcd.index.info import index_info
from dcd.index.read import read_directory
from dcd.index.search import READ_COLUMNS
from dcd.store import Store

_MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One method; touched_bytes: what the rows of the failing labels take in our index."""

    rows: int
    labels: int
    dim: int
    failures: int
    failing_labels: int
    k: int
    method: str
    cold_s: float
    warm_s: float
    peak_rss_bytes: int
    bytes_read: int
    touched_bytes: int
    recall_at_k: float


@dataclass(frozen=True)
class Build:
    """What building the index took; index_bytes: its files."""

    index_id: str
    seconds: float
    peak_rss_bytes: int
    index_bytes: int
    reused: bool


def build(folder: str, size: PoolSize, max_memory_bytes: int) -> Build:
    store = Store(f"{folder}/store")
    shards = make_shards(store, size)
    before = set(store.keys_under(f"index/{size.name}"))
    start = time.perf_counter()
    config = IndexConfig(max_memory_bytes=max_memory_bytes)
    index = build_index(store, size.name, ENCODER, shards, None, config)
    seconds = time.perf_counter() - start
    files = store.keys_under(f"index/{size.name}/{ENCODER}/{index.index_id}")
    return Build(
        index.index_id,
        seconds,
        peak_rss_bytes(),
        sum(Path(store.path(key)).stat().st_size for key in files),
        reused=set(files) <= before,
    )


def measure(case: Case, methods: list[str], n_failing_labels: int) -> list[Row]:
    """Every method once, ours first: its results are what recall counts."""
    failures = pq.read_table(case.failures)
    index = index_info(case.store, case.size.name, ENCODER, case.index_id)
    directory = read_directory(case.store, index, failures["label"])
    touched = touched_bytes(case.store, directory, READ_COLUMNS)
    exact: Ids = {}
    rows = []
    for method in ["ours", *(name for name in methods if name != "ours")]:
        if method.startswith("lancedb"):
            in_a_fresh_process(make_lance_table, case, method == "lancedb_indexed")
        measured = in_a_fresh_process(METHODS[method], case)
        exact = exact or measured.found
        rows.append(
            Row(
                case.size.rows,
                case.size.labels,
                case.size.dim,
                failures.num_rows,
                n_failing_labels,
                case.k,
                method,
                measured.cold_s,
                measured.warm_s,
                measured.peak_rss_bytes,
                measured.bytes_read,
                touched,
                recall(measured.found, exact),
            )
        )
        print(table(rows[-1:], head=len(rows) == 1), flush=True)
    return rows


def recall(found: Ids, exact: Ids) -> float:
    """Mean share of the exact neighbours that were found."""
    return statistics.mean(
        len(set(ids) & set(found.get(failure, []))) / len(ids) for failure, ids in exact.items()
    )


def table(rows: list[Row], head: bool = True) -> str:
    """The rows as Markdown."""
    lines = [
        "| rows | method | cold s | warm s | peak memory | bytes read | ÷ touched | recall@k |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(
        [
            *(lines if head else []),
            *(
                f"| {row.rows:,} | {row.method} | {row.cold_s:.2f} | {row.warm_s:.2f} "
                f"| {row.peak_rss_bytes / _MIB:,.0f} MiB | {row.bytes_read / _MIB:,.0f} MiB "
                f"| {row.bytes_read / row.touched_bytes:.2f} | {row.recall_at_k:.3f} |"
                for row in rows
            ),
        ]
    )


def in_a_fresh_process(work: Callable, *args: object):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def run(args: argparse.Namespace, folder: str) -> list[Row]:
    rows = []
    for n_rows in args.growth or [args.rows]:
        n_labels = max(args.failing_labels, args.labels * n_rows // args.rows)
        size = PoolSize(n_rows, n_labels, args.dim)
        failures = str(Path(folder) / f"failures-{size.name}.parquet")
        pq.write_table(make_failures(size, args.failures, args.failing_labels), failures)
        built = in_a_fresh_process(build, folder, size, args.max_memory_mib * _MIB)
        how = "was there" if built.reused else f"built in {built.seconds:.0f} s"
        print(
            f"{size.name}: index of {built.index_bytes / _MIB:,.0f} MiB {how}, "
            f"peak memory {built.peak_rss_bytes / _MIB:,.0f} MiB",
            flush=True,
        )
        case = Case(folder, size, failures, built.index_id, args.k, args.repeats)
        rows += measure(case, args.methods, args.failing_labels)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--failures", type=int, default=200)
    parser.add_argument("--failing-labels", type=int, default=10)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--methods", type=_names, default=list(METHODS), help="comma-separated")
    parser.add_argument("--growth", type=_numbers, help="comma-separated numbers of rows")
    parser.add_argument("--repeats", type=int, default=5, help="warm calls")
    parser.add_argument("--max-memory-mib", type=int, default=2048, help="for building the index")
    parser.add_argument("--folder", type=Path, help="keep pool and index there; default: a scratch")
    parser.add_argument("--json", type=Path, help="write one object a method there")
    args = parser.parse_args()
    unknown = set(args.methods) - set(METHODS)
    if unknown:
        parser.error(f"--methods: {sorted(unknown)} are none of {list(METHODS)}")
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
        rows = run(args, str(args.folder))
    else:
        with tempfile.TemporaryDirectory(prefix="dcd-selection-") as folder:
            rows = run(args, folder)
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
