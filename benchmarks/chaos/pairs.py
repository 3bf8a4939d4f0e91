"""Two commands at once on one store: is what is left that of one after the other?

    python -m benchmarks.chaos.pairs [--tries 20] [--only NAME …] [--json FILE]

Both commands start within a random part of a second of each other, as two processes of their own.
Both must end well, and the store must then be that of the two commands one after the other, in one
of the two orders; times and drawn ids are left out (benchmarks/chaos/outcome.py names them).
`first starts` are two commands on a Prefect home that nobody has used, each with its own server.
"""

import argparse
import csv
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.chaos.__main__ import prefect_server
from benchmarks.chaos.lives import Way
from benchmarks.chaos.outcome import differences, outcome
from benchmarks.chaos.story import Place, argv_of, forget, litter, put_failures, write_place
from dcd.gate.champions import current
from dcd.runs.finished import list_runs

Start = Literal["empty", "one run", "two runs", "waiting failures"]
_LIMIT_S = 900.0
_OFFSET_S = 1.0


@dataclass(frozen=True)
class Pair:
    """Two commands and the store that they start on.

    same: the part of the outcome that is compared; what prune deletes depends on who was first.
    apart: what is left out of it. A run judges against the champion that it found, and if that one
    was changed meanwhile, it says so and promotes nothing.
    """

    name: str
    start: Start
    first: Sequence[str]
    second: Sequence[str]
    same: tuple[str, ...] = ("",)
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What a pair left in all tries; faults are empty where every try kept the promise."""

    name: str
    n_tries: int
    n_first_order: int
    n_second_order: int
    faults: tuple[str, ...]


_REVIEWERS = ("ann", "bob")


@dataclass(frozen=True)
class Runs:
    """Runs that pairs name: one that is not the champion, one whose picks are reviewed."""

    no_champion: str
    reviewed: str


def pairs(place: Place, other: Path, runs: Runs) -> list[Pair]:
    """Return all pairs. other: a second config on the same store."""
    config, store = str(place.config), ["--store", place.store_url]
    once = argv_of("rerun", place)
    prune = argv_of("prune", place)
    views = ("runs/", "(champion)", "(covered)", "failures/")
    judged = ("runs/*/gate.json", "evaluations/")
    return [
        Pair("the same config twice", "empty", once, once),
        Pair("two configs on one store", "empty", once, ["run", str(other)], apart=judged),
        Pair("a run beside prune", "waiting failures", once, prune, views),
        Pair(
            "a run beside promote",
            "two runs",
            ["run", str(other)],
            ["promote", runs.no_champion, "--force", *store],
            apart=judged,
        ),
        Pair(
            "a run beside rollback",
            "two runs",
            ["run", str(other)],
            ["rollback", *store],
            apart=judged,
        ),
        Pair(
            "promote beside rollback",
            "two runs",
            ["promote", runs.no_champion, "--force", *store],
            ["rollback", *store],
            apart=("(history)",),  # both are noted, and the later one stands
        ),
        Pair(
            "two watchers",
            "waiting failures",
            ["failures", "watch", config],
            ["failures", "watch", config],
        ),
        Pair("a watcher beside a run", "waiting failures", ["failures", "watch", config], once),
        Pair(
            "two reviewers",
            "one run",
            _import_of(_REVIEWERS[0], runs.reviewed, place),
            _import_of(_REVIEWERS[1], runs.reviewed, place),
            ("reviews/batches/",),  # the view beside it is in the order of times
        ),
    ]


def _import_of(reviewer: str, run: str, place: Place) -> list[str]:
    file = str(place.folder / f"{reviewer}.csv")
    return ["review", "import", run, file, "--from", "csv", "--store", place.store_url]


def write_reviews(exported: Path, folder: Path) -> None:
    """Fill in what two reviewers say: the first two thirds and the last; they differ on a third."""
    with (exported / "reviews.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = (exported / "classes.txt").read_text(encoding="utf-8").splitlines()
    third = len(rows) // 3
    parts = (rows[: 2 * third], rows[third:])
    for reviewer, part, label in zip(_REVIEWERS, parts, classes, strict=False):
        said = [{**row, "true_label": label, "reviewer": reviewer} for row in part]
        with (folder / f"{reviewer}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(said)


class Starts:
    """Stores to start on, made once and copied into place."""

    def __init__(self, place: Place, folder: Path):
        self.place, self.folder = place, folder

    def make(self) -> Runs:
        """Make all of them; gives the runs that are in them."""
        self._keep("empty")
        self._do(argv_of("run", self.place))
        self._keep("one run")
        (reviewed,) = (entry.run_id for entry in list_runs(self.place.store()))
        exported = self.folder / "exported"
        argv = ["review", "export", reviewed, str(exported), "--to", "csv"]
        self._do([*argv, "--store", self.place.store_url])
        write_reviews(exported, self.place.folder)
        put_failures(self.place)
        self._keep("waiting failures")
        self._do(argv_of("watch", self.place))
        self._do(argv_of("rerun", self.place))
        store = self.place.store()
        first, second = (entry.run_id for entry in reversed(list_runs(store)))
        # So that there is a champion before the present one, whatever the gate said of each.
        self._do(["promote", first, "--force", "--store", self.place.store_url])
        self._do(["promote", second, "--force", "--store", self.place.store_url])
        self._keep("two runs")
        now = current(store)
        assert now is not None
        return Runs(first if now.run_id == second else second, reviewed)

    def put(self, start: Start) -> None:
        """Put a store in its place."""
        forget(self.place)
        if (self.folder / start).exists():
            shutil.copytree(self.folder / start, self.place.store_url)

    def _keep(self, start: Start) -> None:
        if Path(self.place.store_url).exists():
            shutil.copytree(self.place.store_url, self.folder / start)

    def _do(self, argv: Sequence[str]) -> None:
        ended = self.place.begin(argv).end(_LIMIT_S)
        if ended.exit_code != 0:
            raise RuntimeError(f"{argv}: exit code {ended.exit_code}; see {self.place.log}")

    def after(self, start: Start, commands: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return what a store holds after commands, one after the other."""
        self.put(start)
        for argv in commands:
            self._do(argv)
        return outcome(self.place.store())


def try_pair(pair: Pair, starts: Starts, n_tries: int, seed: int) -> Tried:
    """Run a pair so often, and compare what it leaves with both orders."""
    place = starts.place
    wanted = [
        _part(starts.after(pair.start, order), pair)
        for order in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    rng = random.Random(f"{seed} {pair.name}")
    counts, faults = [0, 0], []
    for number in range(n_tries):
        starts.put(pair.start)
        offset_s = rng.uniform(-_OFFSET_S, _OFFSET_S)
        early, late = (pair.first, pair.second) if offset_s > 0 else (pair.second, pair.first)
        lives = [place.begin(early)]
        time.sleep(abs(offset_s))
        lives.append(place.begin(late))
        codes = [life.end(_LIMIT_S).exit_code for life in lives]
        told = [f"exit codes {codes} of {early[0]}, {late[0]}"] if any(codes) else []
        found = _part(outcome(place.store()), pair)
        unlike = [differences(each, found) for each in wanted]
        if [] in unlike:
            counts[unlike.index([])] += 1
        else:
            told += min(unlike, key=len)
        told += [f"litter: {name}" for name in litter(place)]
        told += [f"left: process {pid}" for life in lives for pid in life.left_behind()]
        faults += [f"try {number}, {offset_s:+.2f} s: {fault}" for fault in told]
        if told:
            shutil.copy(place.log, place.folder / f"{pair.name}-{number}.log")
    as_first, as_second = counts
    return Tried(pair.name, n_tries, as_first, as_second, tuple(faults))


def first_starts(folder: Path, n_tries: int) -> Tried:
    """Start two commands at once on a Prefect home that is new."""
    faults = []
    for number in range(n_tries):
        home = folder / f"home{number}"
        places = []
        for which in ("a", "b"):
            at = folder / f"first{number}{which}"
            environ = {"PREFECT_HOME": str(home)}
            places.append(write_place(at, str(at / "store"), environ))
        lives = [at.begin(argv_of("embed", at), own=True) for at in places]
        codes = [life.end(_LIMIT_S).exit_code for life in lives]
        if any(codes):
            said = " ".join(at.log.read_text()[-300:] for at in places)
            faults.append(f"try {number}: exit codes {codes}: {said}")
    return Tried("two first starts on a new Prefect home", n_tries, n_tries, 0, tuple(faults))


def _part(found: dict[str, str], pair: Pair) -> dict[str, str]:
    return {
        key: value
        for key, value in found.items()
        if key.startswith(pair.same) and not (pair.apart and key.startswith(pair.apart))
    }


def write_other(place: Place) -> Path:
    """Write a second config on the same store: another name, another number of neighbors."""
    document = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    document["name"] = "other"
    document["selection"]["k"] = 3
    other = place.folder / "other.yaml"
    other.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return other


def run_pairs(
    folder: Path, way: Way, n_tries: int, seed: int, only: Sequence[str]
) -> Iterator[Tried]:
    """Try all pairs, or those named; yield what each left."""
    with prefect_server(folder) if way == "commands" else nullcontext():
        place = write_place(folder / "case", str(folder / "case/store"), {}, way)
        starts = Starts(place, folder / "starts")
        every = pairs(place, write_other(place), starts.make())
        for pair in every:
            if not only or pair.name in only:
                yield try_pair(pair, starts, n_tries, seed)


def table(tried: Sequence[Tried]) -> str:
    """Sum up as Markdown."""
    lines = ["| at once | tries | as one after the other | otherwise |", "|---|---|---|---|"]
    for one in tried:
        n_kept = one.n_first_order + one.n_second_order
        lines.append(f"| {one.name} | {one.n_tries} | {n_kept} | {one.n_tries - n_kept} |")
    lines += [f"  {one.name}: {fault}" for one in tried for fault in one.faults]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, try the pairs, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos.pairs")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--first-starts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--way", choices=("commands", "functions"), default="commands")
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory(prefix="dcd-pairs-") as name:
        for one in run_pairs(Path(name), args.way, args.tries, args.seed, args.only):
            tried.append(one)
            print(one, flush=True)
            _write(args.json, tried)
        os.environ.pop("PREFECT_API_URL", None)
        if args.first_starts:
            tried.append(first_starts(Path(name), args.first_starts))
            _write(args.json, tried)
    print(table(tried))
    if any(one.faults for one in tried):
        raise SystemExit(1)


def _write(path: Path | None, tried: Sequence[Tried]) -> None:
    if path is not None:
        path.write_text(json.dumps([asdict(one) for one in tried], indent=1) + "\n")


if __name__ == "__main__":
    main()
