"""Kill whole runs at random moments, on a local store or on a real S3 server.

    python -m benchmarks.chaos [--kills 1000] [--store local|s3] [--way commands|functions]
        [--start fork|exec] [--json FILE]

Each story is an empty store and nine commands as a user types them: `dcd embed`, `index build`,
`select`, `run` (train, report, gate, promotion), `failures watch` with new pictures in the inbox,
`run` again with them, `promote` by hand, `store prune --delete`, and `run` once more. Within each
command processes are killed by SIGKILL, SIGTERM or SIGINT at moments that a seed draws, and the
next command starts at once. In the end tables, models, champion and its history must be those of an
undisturbed story, no process may be left, no temporary file, and no command may have failed.

With --way functions the processes call what the tasks of the flows call, without Prefect, at a
fifth of the cost: six steps a story, since `run` holds the others.

Processes are forked from a server that has imported everything and holds no thread, so that all of
a life counts; with --start exec each is a program that first imports, as a user's is, and is killed
from then on.

With --store s3 (OpenStack Swift from its package, installed on first use) answers fail too: 500,
503, slow and cut ones, and the server itself is killed and started again. A tenth of the lives get
403 for every write, or an expired token, from some request on: they must say so and end, and the
next one goes on.

The file holds every story; one that exists is gone on with.
"""

import argparse
import contextlib
import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.lives import Start, Way
from benchmarks.chaos.weather import Kind, store_of


def main() -> None:
    """Parse the command line, run stories until there were enough kills, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--way", choices=("commands", "functions"), default="commands")
    parser.add_argument("--start", choices=("fork", "exec"), default="fork")
    parser.add_argument("--kills-a-step", type=int, default=6, help="on average, where it lives on")
    parser.add_argument("--own", type=float, default=0.05, help="share with a server of their own")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are ended, folders removed
    stories = _read(args.json)
    with tempfile.TemporaryDirectory(prefix="dcd-chaos-") as folder:
        n_kills = sum(sum(s["kills"].values()) for s in stories)
        if n_kills < args.kills:
            own = args.own if args.way == "commands" else 0.0
            job = Job(Path(folder), args.store, args.way, args.start, args.kills_a_step, own)
            for story in run_stories(job, args.seed + len(stories), args.kills - n_kills):
                stories.append(story)
                print(_line(story), flush=True)
                if args.json is not None:
                    args.json.write_text(json.dumps(stories, indent=1) + "\n", encoding="utf-8")
    print(table(stories))
    if any(story["faults"] for story in stories):
        raise SystemExit(1)


@dataclass(frozen=True)
class Job:
    """Where stories happen, on what store, and by what kind of process."""

    folder: Path
    kind: Kind
    way: Way
    start: Start
    kills_a_step: int
    own_share: float


def run_stories(job: Job, seed: int, n_kills: int) -> Iterator[dict]:
    """Run stories, one seed after the other, until there were so many kills; yield each."""
    folder = job.folder
    server = prefect_server(folder) if job.way == "commands" else contextlib.nullcontext()
    with server, store_of(job.kind, folder) as (url, environ, weather):
        from benchmarks.chaos import story

        case = folder / "case"
        place = story.write_place(case, url, environ, job.way, job.start, job.own_share)
        calm = story.undisturbed(place)
        _empty(place.store())
        while n_kills > 0:
            story.forget(place)
            told = story.killed(place, seed, calm, job.kills_a_step, weather)
            n_kills -= told.n_kills
            seed += 1
            yield {
                "seed": told.seed,
                "store": job.kind,
                "way": job.way,
                "start": job.start,
                "kills": dict(told.kills),
                "refused": dict(told.refused),
                "met": dict(told.met),
                "faults": told.faults,
            }
            if told.faults:
                place.log.rename(f"{tempfile.gettempdir()}/chaos-{told.seed}.log")
            _empty(place.store())


def _empty(store) -> None:
    for found in store.objects_under():
        store.delete(found.key)


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[None]:
    """Run one Prefect server in a home of its own for all commands."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    from flows.cli.console import configure_prefect

    configure_prefect(verbose=False)
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    server.start(timeout=600)
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        yield
    finally:
        server.stop()


def table(stories: list[dict]) -> str:
    """Sum up the stories as Markdown."""
    kills: Counter[str] = Counter()
    for story in stories:
        kills.update(story["kills"])
    signals = ("SIGKILL", "SIGTERM", "SIGINT")
    steps = dict.fromkeys(key.rpartition(" ")[0] for key in kills)
    lines = ["| killed in | " + " | ".join(signals) + " |", "|---|---|---|---|"]
    for step in steps:
        counts = [str(kills[f"{step} {name}"]) for name in signals]
        lines.append(f"| {step} | " + " | ".join(counts) + " |")
    totals = [str(sum(n for k, n in kills.items() if k.endswith(name))) for name in signals]
    lines.append("| all | " + " | ".join(totals) + " |")
    refused: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for story in stories:
        refused.update(story.get("refused", {}))
        met.update(story.get("met", {}))
    lines += [f"\n{number} times: {name}" for name, number in sorted(refused.items())]
    if met:
        by_kind = ", ".join(f"{name} {number:,}" for name, number in sorted(met.items()))
        lines.append(f"\n{met.total():,} faults of the store: {by_kind}")
    n_faulty = sum(bool(story["faults"]) for story in stories)
    lines.append(
        f"\n{kills.total()} kills in {len(stories)} stories; stories with a fault: {n_faulty}"
    )
    lines += [f"  seed {s['seed']}: {fault}" for s in stories for fault in s["faults"]]
    return "\n".join(lines)


def _line(story: dict) -> str:
    n = sum(story["kills"].values())
    return f"seed {story['seed']} ({story['store']}): {n} kills, {story['faults'] or 'no fault'}"


def _read(path: Path | None) -> list[dict]:
    if path is None or not path.exists():
        return []
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
