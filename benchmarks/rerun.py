"""What ten new failures cost after a first run on the CIFAR-10N pool.

    python -m benchmarks.rerun [--json FILE] [--baselines none …] [--input-size 224]
        [--folder FOLDER] [--times 3]

In an empty store, each step a command of its own as a user types it: `dcd run` with 90 failures of
seed 0; ten more pictures are put into the inbox, `dcd failures watch` takes them in; `dcd run`
again. Times are wall-clock, from the start of Python to its end, and hold the start of Prefect.
The encoder has its own input size, as DCD uses it where a config says nothing; the comparisons of
`benchmarks.real` run at 96 px, to be quick. What a pool image costs grows with --input-size; what a
rerun costs does not.

With --folder the store after the first run stays there, and later calls only do the rerun, in a
copy of it.
"""

import argparse
import json
import resource
import shutil
import statistics
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


def command(*arguments: str) -> tuple[float, float]:
    """Run `dcd …`; the seconds it took, and those of CPU, Prefect's temporary server included."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "flows", *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu_s


def last_card(store: Store) -> dict[str, object]:
    run_id = list_runs(store)[0].run_id
    return json.loads(store.read_bytes(keys.run_card(run_id)))


def first_run(
    folder: Path, new_ids: list[str], baselines: list[str], input_size: int | None
) -> dict[str, object]:
    """Run in an empty store, unless the folder holds such a run: its seconds and stages."""
    note = folder / "first.json"
    if note.exists():
        return json.loads(note.read_text(encoding="utf-8"))
    config = write_config(folder, new_ids, baselines, input_size)
    seconds, cpu_s = command("run", str(config))
    card = last_card(Store(str(folder / "store")))
    found: dict[str, object] = {"seconds": seconds, "cpu_s": cpu_s, "run_id": card["run_id"]}
    found |= {"stages": card["stages"], "baselines": baselines, "input_size": input_size}
    (folder / "store").rename(folder / "after-first")
    note.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def rerun(folder: Path, arrived: list[dict[str, object]]) -> dict[str, object]:
    """Take the new failures in and run again, in a copy of the store after the first run."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.copytree(folder / "after-first", folder / "store")
    config = folder / "rerun.yaml"
    store = Store(str(folder / "store"))
    for row in arrived:
        path = Path(store.path(f"{keys.FAILURES_INBOX}/{row['label']}/{row['image_id']}.jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(row["image"]))  # type: ignore[arg-type]
    watch_s, _ = command("failures", "watch", str(config))
    seconds, cpu_s = command("run", str(config))
    return {"watch_s": watch_s, "seconds": seconds, "cpu_s": cpu_s, **last_card(store)}


def measure(
    folder: Path, baselines: list[str], input_size: int | None, times: int
) -> dict[str, object]:
    arrived = new_failures()
    new_ids = [str(row["image_id"]) for row in arrived]
    first = first_run(folder, new_ids, baselines, input_size)
    reruns = [rerun(folder, arrived) for _ in range(times)]
    assert reruns[-1]["run_id"] != first["run_id"], "the second run took no new failure"
    first_s = float(str(first["seconds"]))
    every_s = [float(str(found["seconds"])) for found in reruns]
    rerun_s = statistics.median(every_s)
    return {
        "first_s": first_s,
        "watch_s": statistics.median(float(str(found["watch_s"])) for found in reruns),
        "rerun_s": rerun_s,
        "every_rerun_s": every_s,
        "first_cpu_s": first.get("cpu_s"),  # folders of earlier versions do not have it
        "rerun_cpu_s": statistics.median(float(str(found["cpu_s"])) for found in reruns),
        "ratio": rerun_s / first_s,
        "first_stages": first["stages"],
        "rerun_stages": reruns[-1]["stages"],
        "baselines": first["baselines"],
        "input_size": first["input_size"],
    }


def embedded(stages: list[dict[str, object]]) -> dict[str, tuple[int, int]]:
    """(images, bytes) that were embedded now, by source."""
    return {
        str(s["stage"]).removeprefix("embed "): (int(str(s["n"])), int(str(s["n_bytes"])))
        for s in stages
        if s["n_bytes"] is not None
    }


def by_stage(stages: list[dict[str, object]]) -> dict[str, float]:
    """Seconds by stage, embedding being one."""
    found: dict[str, float] = {}
    for stage in stages:
        name = "embedding" if stage["n_bytes"] is not None else str(stage["stage"])
        found[name] = found.get(name, 0.0) + float(str(stage["seconds"]))
    return found


def table(found: dict[str, object]) -> str:
    lines = ["| | first run | rerun for 10 new failures |", "|---|---|---|"]
    first, rerun = (found[name] for name in ("first_stages", "rerun_stages"))
    assert isinstance(first, list)
    assert isinstance(rerun, list)
    before, now = embedded(first), embedded(rerun)
    for source in now:
        cells = [f"{n:,} ({b / 1e6:,.2f} MB)" for n, b in (before.get(source, (0, 0)), now[source])]
        lines.append(f"| images of {source} embedded (read) | {cells[0]} | {cells[1]} |")
    seconds = [by_stage(stages) for stages in (first, rerun)]
    lines += [
        f"| seconds: {stage} | {seconds[0].get(stage, 0):.1f} | {s:.1f} |"
        for stage, s in seconds[1].items()
    ]
    lines.append(f"| seconds, whole command | {found['first_s']:.1f} | {found['rerun_s']:.1f} |")
    first_cpu = "–" if found["first_cpu_s"] is None else f"{found['first_cpu_s']:.1f}"
    lines.append(f"| seconds of CPU, with Prefect's | {first_cpu} | {found['rerun_cpu_s']:.1f} |")
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
    parser.add_argument("--folder", type=Path, help="keep the first run's store there, or take it")
    parser.add_argument("--times", type=int, default=1, help="reruns, each of the same failures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, args.baselines, args.input_size, args.times)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
