"""What ten new failures cost after a first run on the CIFAR-10N pool.

    python -m benchmarks.rerun [--json FILE] [--baselines none …] [--input-size 224]

In an empty store, each step a command of its own as a user types it: `dcd run` with 90 failures of
seed 0; ten more pictures are put into the inbox, `dcd failures watch` takes them in; `dcd run`
again. Times are wall-clock, from the start of Python to its end, and hold the start of Prefect.
The encoder has its own input size, as DCD uses it where a config says nothing; the comparisons of
`benchmarks.real` run at 96 px, to be quick. What a pool image costs grows with --input-size; what a
rerun costs does not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from dcd.runs.finished import list_runs
from dcd.store import Store, keys

DATA = Path("../shared/data/cifar10n")
CONFIG = Path("benchmarks/cifar10n.yaml")
N_NEW = 10


def write_config(
    folder: Path, new_ids: list[str], baselines: list[str], input_size: int | None
) -> Path:
    """The benchmark's config at seed 0 in a store of its own, without the new failures."""
    document = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    listed = ", ".join(f"'{image_id}'" for image_id in new_ids)
    document["store"] = str(folder / "store")
    document["seeds"] = [0]
    document["failures"] = True
    document["encoder"]["input_size"] = input_size
    document["error_sample"]["where"] = f"role = 'error_sample' AND image_id NOT IN ({listed})"
    document["compare"] = {"baselines": baselines}
    config = folder / "rerun.yaml"
    config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return config


def new_failures() -> list[dict[str, object]]:
    """Ten images of the error sample, two a failure mode: image_id, label, image."""
    split = pq.read_table(DATA / "splits/seed0.parquet").to_pylist()
    sample = sorted(
        (row for row in split if row["role"] == "error_sample"), key=lambda row: row["image_id"]
    )
    modes = sorted({row["mode"] for row in sample})
    per_mode = N_NEW // len(modes)
    picked = [r for m in modes for r in [r for r in sample if r["mode"] == m][:per_mode]]
    label_of = {row["image_id"]: row["label"] for row in picked}
    images = pq.read_table(DATA / "test.parquet", columns=["image_id", "image"]).to_pylist()
    return [{**r, "label": label_of[r["image_id"]]} for r in images if r["image_id"] in label_of]


def command(*arguments: str) -> float:
    """Run `dcd …`; the seconds it took."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "flows", *arguments], check=True)
    return time.monotonic() - start


def last_card(store: Store) -> dict[str, object]:
    run_id = list_runs(store)[0].run_id
    return json.loads(store.read_bytes(keys.run_card(run_id)))


def measure(folder: Path, baselines: list[str], input_size: int | None) -> dict[str, object]:
    arrived = new_failures()
    new_ids = [str(row["image_id"]) for row in arrived]
    config = write_config(folder, new_ids, baselines, input_size)
    store = Store(str(folder / "store"))
    first_s = command("run", str(config))
    first = last_card(store)
    for row in arrived:
        path = Path(store.path(f"{keys.FAILURES_INBOX}/{row['label']}/{row['image_id']}.jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(row["image"]))  # type: ignore[arg-type]
    watch_s = command("failures", "watch", str(config))
    rerun_s = command("run", str(config))
    rerun = last_card(store)
    assert rerun["run_id"] != first["run_id"], "the second run took no new failure"
    return {
        "first_s": first_s,
        "watch_s": watch_s,
        "rerun_s": rerun_s,
        "ratio": rerun_s / first_s,
        "first_stages": first["stages"],
        "rerun_stages": rerun["stages"],
        "baselines": baselines,
        "input_size": input_size,
    }


def embedded(stages: list[dict[str, object]]) -> dict[str, tuple[int, int]]:
    """(images, bytes) that were embedded now, by source."""
    return {
        str(s["stage"]).removeprefix("embed "): (int(str(s["n"])), int(str(s["n_bytes"])))
        for s in stages
        if s["n_bytes"] is not None
    }


def table(found: dict[str, object]) -> str:
    lines = ["| | first run | rerun for 10 new failures |", "|---|---|---|"]
    first, rerun = (found[name] for name in ("first_stages", "rerun_stages"))
    assert isinstance(first, list)
    assert isinstance(rerun, list)
    before, now = embedded(first), embedded(rerun)
    for source in now:
        cells = [f"{n:,} ({b / 1e6:,.2f} MB)" for n, b in (before.get(source, (0, 0)), now[source])]
        lines.append(f"| images of {source} embedded (read) | {cells[0]} | {cells[1]} |")
    lines.append(f"| seconds, whole command | {found['first_s']:.1f} | {found['rerun_s']:.1f} |")
    lines.append(
        f"| share of the first run | 100 % | **{100 * float(str(found['ratio'])):.1f} %** |"
    )
    lines.append(f"| seconds, taking the inbox in | – | {found['watch_s']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--baselines", nargs="+", default=["none", "error_sample", "random_in_label"]
    )
    parser.add_argument("--input-size", type=int, help="pixels; default: the encoder's own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.baselines, args.input_size)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
