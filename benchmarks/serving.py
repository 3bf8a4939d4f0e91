"""Measure `dcd serve` with many readers at once.

    python -m benchmarks.serving [--clients 200] [--rounds 5] [--json FILE]

A store of 300 runs (benchmarks/growth.py makes it), the real command on it, and so many clients
that each fetch five pages in turn, as fast as they are answered: the list of runs, a run, its
report, the failures, the champions. The seconds are those that a client waits; the memory is the
most that the server's process held.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import httpx
import numpy as np
import psutil

from benchmarks.growth import Size, write_store
from dcd.store import Store

_STARTED_WITHIN_S = 120
_ANSWERED_WITHIN_S = 120
_N_RUNS = 300


@dataclass(frozen=True)
class Waited:
    """What the clients saw of one page; seconds."""

    page: str
    n_answers: int
    median_s: float
    p95_s: float
    longest_s: float


def main() -> None:
    """Parse the command line, serve, read, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    with TemporaryDirectory(prefix="dcd-serving-") as folder:
        store = Store(str(Path(folder, "store")))
        write_store(store, Size(runs=_N_RUNS))
        with served(store) as (url, server):
            found = asyncio.run(read(url, args.clients, args.rounds))
            peak_mib = server.memory_info().rss / 2**20
    print(table(found))
    print(f"\n{args.clients} clients; the server holds {peak_mib:.0f} MiB afterwards.")
    if args.json is not None:
        told = {"peak_mib": peak_mib, "pages": [asdict(one) for one in found]}
        args.json.write_text(json.dumps(told, indent=1) + "\n")


@contextmanager
def served(store: Store) -> Iterator[tuple[str, psutil.Process]]:
    """Run the command on a free port and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows", "serve", "--store", store.url, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while True:
            try:
                httpx.get(f"{url}/style.css")
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def read(url: str, n_clients: int, n_rounds: int) -> list[Waited]:
    """Let all clients read at once, each by a connection and about a run of its own."""
    waits: dict[str, list[float]] = {}
    # The server ends a connection that is idle for 5 s: one that is older is not used again.
    connections = aiohttp.TCPConnector(limit=n_clients, keepalive_timeout=2)
    timeout = aiohttp.ClientTimeout(total=_ANSWERED_WITHIN_S)
    async with aiohttp.ClientSession(url, connector=connections, timeout=timeout) as client:
        readers = (_read(client, number, n_rounds, waits) for number in range(n_clients))
        await asyncio.gather(*readers)
    return [_waited(page, seconds) for page, seconds in waits.items()]


async def _read(
    client: aiohttp.ClientSession, number: int, n_rounds: int, waits: dict[str, list[float]]
) -> None:
    run = f"/runs/run-{number % _N_RUNS:012x}"
    pages = {
        "/": "/",
        "a run": run,
        "its report": f"{run}/report.html",
        "/failures": "/failures",
        "/champions": "/champions",
    }
    for _ in range(n_rounds):
        for page, path in pages.items():
            started = time.perf_counter()
            async with client.get(path, raise_for_status=True) as answer:
                await answer.read()
            waits.setdefault(page, []).append(time.perf_counter() - started)


def _waited(page: str, seconds: list[float]) -> Waited:
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    return Waited(page, len(seconds), float(median), float(p95), max(seconds))


def table(found: list[Waited]) -> str:
    """Make the table of the documentation."""
    lines = ["| page | answers | median s | 95 % within s | longest s |", "|---|---|---|---|---|"]
    for one in found:
        lines.append(
            f"| {one.page} | {one.n_answers:,} | {one.median_s:.2f} | {one.p95_s:.2f} | "
            f"{one.longest_s:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
