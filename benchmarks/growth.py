"""Measure what months of use cost: each command on a store of a quarter of the size, and of all.

    python -m benchmarks.growth [--json FILE]

Synthetic objects, made directly: failures in the inbox, registered batches, runs with their notes,
shards, classes. Time is that of the processor; memory what a command adds to the process. A cost
that grows with the store is four times as large; the table says how much it was.
"""

import argparse
import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from dcd.config import RunConfig, load_config
from dcd.store import Store, keys
from dcd.tables import schemas

_CARD = {"verdict": ["It is better."], "metrics": [], "stages": [], "lineage": {}}
_FILES_OF_A_RUN = ("config.json", "card.md", "error_sample.parquet", "report.html")


@dataclass(frozen=True)
class Size:
    """How much a store holds."""

    inbox: int = 10_000
    batches: int = 1_000
    runs: int = 300
    shards: int = 5_000
    classes: int = 2_000

    def quarter(self) -> "Size":
        return Size(*(n // 4 for n in asdict(self).values()))


@dataclass(frozen=True)
class Cost:
    """What one command took: processor seconds, and MiB beyond what the process held before."""

    command: str
    seconds: float
    memory_mib: float


def picture(number: int) -> bytes:
    """An 8 x 8 picture that only this number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def write_case(folder: Path, size: Size) -> RunConfig:
    """Write the pool, the splits and a config."""
    names = [f"class {n:05d}" for n in range(size.classes)]
    (folder / "pool").mkdir()
    for shard in range(size.shards):
        rows = {
            "image_id": [f"p{shard}-{i}" for i in range(2)],
            "image": [b"not looked at"] * 2,
            "weak_label": [names[(2 * shard + i) % len(names)] for i in range(2)],
        }
        pq.write_table(pa.table(rows), folder / "pool" / f"{shard:05d}.parquet")
    document: dict[str, object] = {
        "store": str(folder / "store"),
        "pool": {"name": "pool", "images": str(folder / "pool/*.parquet")},
        "encoder": {"model": "pixels", "input_size": 16},
        "failures": True,
    }
    for number, split in enumerate(("train", "test", "debug_heldout")):
        ids = [f"{split}{i}" for i in range(size.classes)]
        images = [picture(10**6 * (number + 1) + i) for i in range(size.classes)]
        path = folder / f"{split}.parquet"
        pq.write_table(pa.table({"image_id": ids, "image": images, "weak_label": names}), path)
        document[split] = {"images": str(path)}
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    return load_config(folder / "config.yaml")


def write_store(store: Store, size: Size) -> None:
    """Write registered failures, finished runs with what they covered, and changed champions."""
    now = datetime.now(UTC)
    batches = [f"{n:012x}" for n in range(size.batches)]
    for number, batch in enumerate(batches):
        store.write_table(keys.failure_batch(batch), registered(number, now))
    previous = None
    for number in range(size.runs):
        run_id = f"run-{number:012x}"
        for name in _FILES_OF_A_RUN:
            store.write_bytes(keys.run(run_id, name), b"{}" if name.endswith("json") else b"x" * 99)
        store.write_json(keys.run_card(run_id), _CARD)
        store.write_json(keys.run_parts(run_id), [f"cells/{number:012x}"])
        store.write_bytes(keys.cell_predictions(f"{number:012x}"), b"x" * 99)
        n_covered = (number + 1) * size.batches // size.runs
        covered = {"run_id": run_id, "batches": batches[:n_covered], "finished": now.isoformat()}
        store.write_json(keys.covered_failures("run", run_id), covered)
        change = champion(number, run_id, previous, now)
        store.write_json(keys.champion_change(str(change["id"])), change)
        store.write_json(keys.CHAMPION, change)
        previous = str(change["id"])


def registered(number: int, now: datetime) -> pa.Table:
    """A batch of two failures."""
    data = [picture(2 * number + 5 * 10**6 + i) for i in range(2)]
    rows = [
        {
            **dict.fromkeys(schemas.FAILURE_BATCH.names, None),
            "image_id": f"b{number}-{i}",
            "label": f"class {number % 50:05d}",
            "content_hash": schemas.content_hash(one),
            "uri": f"inbox/{number}-{i}.png",
            "etag": "e",
            "registered": now,
            "image": one,
        }
        for i, one in enumerate(data)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.FAILURE_BATCH)


def champion(number: int, run_id: str, previous: str | None, now: datetime) -> dict[str, object]:
    return {
        "id": f"{now:%Y%m%dT%H%M%S}{number:06d}Z-{number:08x}",
        "action": "promotion",
        "at": now.isoformat(),
        "run_id": run_id,
        "seed": 0,
        "model": keys.run_model(run_id, 0),
        "card": keys.run_card(run_id),
        "classes": ["a", "b"],
        "reasons": ["better"],
        "previous": previous,
        "replaced": previous,
    }


def write_inbox(store: Store, size: Size) -> None:
    for number in range(size.inbox):
        path = Path(store.path(f"{keys.FAILURES_INBOX}/class {number % 50:05d}/{number}.png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(8 * 10**6 + number))


def commands(store: Store, config: RunConfig) -> list[tuple[str, Callable[[], object]]]:
    """All that is measured, in this order."""
    from starlette.testclient import TestClient

    from dcd.failures.intake import take_in_folder
    from dcd.failures.registry import check_batches, first_runs, read_registry
    from dcd.gate.champions import history
    from dcd.runs.pruning import plan_pruning, usage
    from dcd.serve.app import create_app
    from dcd.validation.run import examine

    client = TestClient(create_app(store), base_url="http://127.0.0.1")

    def page(path: str) -> None:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text

    def listed() -> None:
        assert read_registry(store).failures.num_rows
        first_runs(store)

    def validate() -> None:
        found = examine(config).problems
        assert not found, found

    return [
        ("dcd validate", validate),
        ("dcd failures watch, all new", lambda: take_in_folder(store, config)),
        ("dcd failures watch, nothing new", lambda: take_in_folder(store, config)),
        ("dcd failures list, first", listed),
        ("dcd failures list", listed),
        ("dcd run: the check of all batches", lambda: check_batches(store)),
        ("dcd champions", lambda: history(store)),
        ("dcd store usage", lambda: usage(store.objects_under())),
        ("dcd store prune", lambda: plan_pruning(store, 3, datetime.now(UTC))),
        ("dcd serve: /", lambda: page("/")),
        ("dcd serve: a run", lambda: page(f"/runs/run-{0:012x}")),
        ("dcd serve: /failures", lambda: page("/failures")),
        ("dcd serve: /rejects", lambda: page("/rejects")),
        ("dcd serve: /champions", lambda: page("/champions")),
    ]


def measure(command: str, work: Callable[[], object]) -> Cost:
    before = _peak_mib(reset=True)
    started = time.process_time()
    work()
    seconds = time.process_time() - started
    return Cost(command, seconds, max(0.0, _peak_mib() - before))


def _peak_mib(*, reset: bool = False) -> float:
    """The most memory that this process held; reset: since now, where Linux can forget."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure_size(size: Size) -> list[Cost]:
    with TemporaryDirectory(prefix="dcd-growth-") as scratch:
        folder = Path(scratch)
        config = write_case(folder, size)
        store = Store(config.store)
        write_store(store, size)
        write_inbox(store, size)
        os.sync()
        found = []
        for name, work in commands(store, config):
            found.append(measure(name, work))
            print(f"{found[-1]}", file=sys.stderr, flush=True)
        return found


def table(few: list[Cost], all_: list[Cost]) -> str:
    lines = [
        "| command | s, a quarter | s | times | MiB, a quarter | MiB |",
        "|---|---|---|---|---|---|",
    ]
    for small, large in zip(few, all_, strict=True):
        times = large.seconds / max(small.seconds, 1e-9)
        lines.append(
            f"| {large.command} | {small.seconds:.2f} | {large.seconds:.2f} | {times:.1f} | "
            f"{small.memory_mib:.0f} | {large.memory_mib:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="Write the costs to this file.")
    parser.add_argument("--part", type=int, default=1, help="Of the size: all is a part of 1.")
    arguments = parser.parse_args()
    size = Size(*(n // arguments.part for n in asdict(Size()).values()))
    few, all_ = measure_size(size.quarter()), measure_size(size)
    print(table(few, all_))
    if arguments.json:
        costs = {"quarter": [asdict(c) for c in few], "all": [asdict(c) for c in all_]}
        arguments.json.write_text(json.dumps(costs, indent=1) + "\n")


if __name__ == "__main__":
    main()
