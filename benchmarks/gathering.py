"""How long gathering a split takes where its labels are many and its shards too.

python -m benchmarks.gathering [--labels 1000000] [--shards 200] [--rows-a-shard 2000]
With PYTHONPATH on an older checkout, the same command measures that one: only the ratio of two
runs side by side means something.
"""

import argparse
import inspect
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

DIM = 8


@dataclass(frozen=True)
class Rooms:
    """The functions that are measured, by this checkout's names or those before its rooms."""

    store: Any
    keys: Any
    gather: Any
    embeddings: Any


def rooms() -> Rooms:
    """Find them."""
    try:
        gather = import_module("dcd.splits.gather").gather
        schemas, store = import_module("dcd.tables.schemas"), import_module("dcd.store")
        keys = import_module("dcd.store.keys")
    except ModuleNotFoundError:
        gather = import_module("dcd.datasets").gather
        schemas, store = import_module("dcd.schemas"), import_module("dcd.store")
        keys = import_module("dcd.keys")
    return Rooms(store.Store, keys, gather, schemas.embeddings)


def write_shards(of: Rooms, store: Any, n_shards: int, n_rows: int) -> list[str]:
    """Write shards of embeddings of zeros."""
    schema = of.embeddings(DIM)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.zeros(n_rows * DIM, np.float16)), type=schema.field("embedding").type
    )
    names = [f"s{n:05d}" for n in range(n_shards)]
    for n, name in enumerate(names):
        ids = [f"i{n * n_rows + row:09d}" for row in range(n_rows)]
        hashes = pa.array([i.encode().ljust(16, b"0") for i in ids], pa.binary(16))
        rows = pa.table([ids, ["cat"] * n_rows, hashes, vectors], schema=schema)
        store.write_table(of.keys.embeddings("pool", "encoder", name), rows)
    return names


def measured(of: Rooms, n_labels: int, n_shards: int, n_rows: int, n_times: int) -> list[float]:
    """Seconds of each of `n_times` calls that find the images of all shards among the labels."""
    with tempfile.TemporaryDirectory() as folder:
        store = of.store(folder)
        names = write_shards(of, store, n_shards, n_rows)
        labels = pa.table(
            {
                "image_id": [f"i{n:09d}" for n in range(n_labels)],
                "label": pa.array(["cat"] * n_labels),
                "mode": pa.nulls(n_labels, pa.string()),
            }
        )
        asked = {"store": store, "labels": labels, "place": "train"}
        given = inspect.signature(of.gather).parameters
        asked |= {name: "pool" for name in ("source_id", "pool", "source") if name in given}
        asked |= {"encoder_id": "encoder"}
        asked |= {n: names for n in ("shard_names", "shards") if n in given}
        seconds = []
        for _ in range(n_times):
            started = time.perf_counter()
            found = of.gather(**asked)
            seconds.append(time.perf_counter() - started)
            assert found.num_rows == min(n_labels, n_shards * n_rows)
        return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--rows-a-shard", type=int, default=2000)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    seconds = measured(rooms(), args.labels, args.shards, args.rows_a_shard, args.times)
    told = ", ".join(f"{s:.2f}" for s in seconds)
    print(f"gather, {args.labels:,} labels over {args.shards:,} shards: {told} s; ", end="")
    print(f"median {median(seconds):.2f} s")


if __name__ == "__main__":
    main()
