"""How long it takes from the drop of failing pictures to their run, and to the champion.

    python -m benchmarks.dropping [--times 3] [--drops 5 --pause 12] [--s3]

`dcd up` on a small case (three colours, a tiny network, one seed), with a real server, worker and
watcher; pictures are put into the inbox and the runs that follow are timed by the server's clock.
With --drops several are dropped one after the other, and the table says which run took them. With
--s3 the store is a bucket of the tests' S3 server (Swift), else a folder.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcd.failures import registry
from dcd.store import Store, keys
from tests.case import LABELS, png, write_case
from tests.operated import TERMINAL, Stack, started, wait_for
from tests.s3_server import SwiftServer, client, use


@dataclass(frozen=True)
class Waited:
    """Seconds from the first drop on: until the run was created, began, and ended."""

    created_s: float
    started_s: float
    ended_s: float


def drop(store: Store, rng: np.random.Generator, name: str) -> None:
    """Put a picture of every label into the inbox."""
    for label in LABELS:
        key = f"{keys.FAILURES_INBOX}/{label}/{name}.png"
        store.write_bytes(key, png(rng, label, dark=True))


def runs_since(stack: Stack, known: set[str]) -> list[dict[str, Any]]:
    """The runs of debug-model that are new, the oldest first, once all of them have ended."""
    runs = [run for run in stack.runs("debug-model") if run["id"] not in known]
    done = runs and all(run["state_type"] in TERMINAL for run in runs)
    return sorted(runs, key=lambda run: run["created"]) if done else []


def since(dropped: datetime, at: str) -> float:
    return (datetime.fromisoformat(at) - dropped).total_seconds()


def measure(stack: Stack, store: Store, n_drops: int, pause_s: float, nth: int) -> list[Waited]:
    """Drop, wait until no run works or waits any more, and say how long each of them took."""
    rng = np.random.default_rng(100 + nth)
    known = {run["id"] for run in stack.runs("debug-model")}
    dropped = datetime.now(UTC)
    for i in range(n_drops):
        if i:
            time.sleep(pause_s)
        drop(store, rng, f"drop{nth}-{i}")
    n_known = (nth + 1) * n_drops * len(LABELS)
    wait_for("all to be covered", lambda: all_covered(store, n_known), 900)
    runs = wait_for("the end of the runs", lambda: runs_since(stack, known), 900)
    times = [
        [since(dropped, run[at]) for at in ("created", "start_time", "end_time")] for run in runs
    ]
    return [Waited(*of_run) for of_run in times]


def all_covered(store: Store, n_dropped: int) -> bool:
    """Whether all pictures are registered, and finished runs have seen them."""
    known = registry.read_registry(store)
    waiting = registry.pending(store, "tiny", known)
    return known.failures.num_rows == n_dropped and waiting.n_failures == 0


@contextmanager
def new_store(folder: Path, on_s3: bool) -> Iterator[str]:
    """The URL of an empty store, which is there for the block."""
    if not on_s3:
        yield str(folder / "case" / "store")
        return
    server = SwiftServer(folder / "swift")
    server.start()
    try:
        client(server.url).create_bucket(Bucket="dropping")
        with pytest.MonkeyPatch.context() as patch:
            use(server.url, patch)
            yield "s3://dropping/dcd"
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--drops", type=int, default=1)
    parser.add_argument("--pause", type=float, default=12.0, help="seconds between drops")
    parser.add_argument("--s3", action="store_true", help="a store in a bucket of Swift")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, new_store(Path(made), args.s3) as url:
        folder = Path(made)
        config = write_case(folder / "case", seeds=(0,), store=url)
        with started(folder / "home", config, {}) as stack:
            store = Store(url)
            firsts = []
            for nth in range(args.times):
                runs = measure(stack, store, args.drops, args.pause, nth)
                for run in runs:
                    print(
                        f"drop {nth}: created {run.created_s:.1f} s, "
                        f"started {run.started_s:.1f} s, ended {run.ended_s:.1f} s",
                        flush=True,
                    )
                firsts.append((runs[0].started_s, runs[-1].ended_s))
            for name, values in zip(("start", "end"), zip(*firsts, strict=True), strict=True):
                print(f"median from the drop to the {name}: {statistics.median(values):.1f} s")


if __name__ == "__main__":
    main()
