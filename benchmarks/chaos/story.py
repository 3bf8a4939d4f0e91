"""One store from its first command to its last, with processes killed on the way."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from benchmarks.chaos.lives import LEAVE_S, Life, Signal, Start, Way
from benchmarks.chaos.outcome import differences, outcome
from benchmarks.chaos.weather import SAID, Refusal, Weather
from dcd.runs.finished import list_runs
from dcd.scratch import remove_abandoned
from dcd.store import Store
from tests.case import write_case
from tests.dcd.failures.failing_images import write_failures

Step = Literal[
    "embed", "index", "select", "run", "watch", "rerun", "promote", "prune", "after prune"
]
STEPS: Mapping[Way, tuple[Step, ...]] = {
    "commands": get_args(Step),
    "functions": ("run", "watch", "rerun", "promote", "prune", "after prune"),
}
SIGNALS: tuple[Signal, ...] = get_args(Signal)
_LIMIT_S = 900.0  # of one command on a busy machine
_CACHE_OF_TORCH = "torchinductor_"  # one empty folder a user, which torch makes and keeps
N_NEW = 2  # failures a label


@dataclass(frozen=True)
class Place:
    """Where a story happens: its folder, its store, and the environment of its commands.

    own_share: of the lives, how many have a Prefect server of their own.
    """

    folder: Path
    store_url: str
    environ: Mapping[str, str]
    way: Way = "commands"
    start: Start = "fork"
    own_share: float = 0.0

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "commands.log"

    @property
    def scratch(self) -> Path:
        """What the commands have as the folder for temporary files."""
        return self.folder / "scratch"

    def store(self) -> Store:
        return Store(self.store_url)

    def begin(self, argv: Sequence[str], *, own: bool = False) -> Life:
        """Start a command."""
        start = "own" if own else self.start
        return Life(list(argv), self.environ, self.log, self.way, start)


@dataclass
class Told:
    """What one story saw; `faults` are what should not be: all lists empty is a pass."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)  # by "step signal"
    refused: Counter[str] = field(default_factory=Counter)  # lives by what the store answered
    met: Counter[str] = field(default_factory=Counter)  # single answers by what was wrong
    faults: list[str] = field(default_factory=list)
    outcome: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of undisturbed steps

    @property
    def n_kills(self) -> int:
        return self.kills.total()


def write_place(
    folder: Path,
    store_url: str,
    environ: Mapping[str, str],
    way: Way = "commands",
    start: Start = "fork",
    own_share: float = 0.0,
) -> Place:
    """Write the tiny case with its store at a URL."""
    write_case(
        folder,
        seeds=(0,),
        failures=True,
        store=store_url,
        compare={"baselines": ["error_sample"]},
        gate={"margin_points": 50},  # so few test images prove no smaller loss
    )
    environ = {**environ, "TMPDIR": str(folder / "scratch")}
    place = Place(folder, store_url, environ, way, start, own_share)
    place.scratch.mkdir(exist_ok=True)
    return place


def argv_of(step: Step, place: Place) -> list[str]:
    """Return the command line of a step."""
    config, store = str(place.config), ["--store", place.store_url]
    match step:
        case "embed" | "select":
            return [step, config]
        case "index":
            return ["index", "build", config]
        case "run" | "rerun" | "after prune":
            return ["run", config]
        case "watch":
            return ["failures", "watch", config]
        case "promote":
            first = list_runs(place.store())[-1].run_id
            return ["promote", first, "--force", *store]
        case "prune":
            few = ["--keep-runs", "1", "--older-than-days", "0", "--delete"]
            return ["store", "prune", *few, *store]


def put_failures(place: Place) -> None:
    """Put the same new pictures into the store's inbox."""
    pictures = place.folder / "pictures"
    for path in write_failures(pictures, N_NEW, seed=5):
        name = path.relative_to(pictures).as_posix()
        place.store().write_raw(f"failures/inbox/{name}", path.read_bytes())


def undisturbed(place: Place) -> Told:
    """Run every step once."""
    told = Told(seed=-1)
    # The first process waits for the server that they are forked from, which is none of its time.
    place.begin(["store", "usage", "--store", place.store_url]).end(_LIMIT_S)
    for step in STEPS[place.way]:
        if step == "watch":
            put_failures(place)
        life = place.begin(argv_of(step, place))
        life.wait_until_ready()
        ended = life.end(_LIMIT_S)
        told.seconds[step] = ended.seconds
        if ended.exit_code != 0:
            raise RuntimeError(f"{step}: exit code {ended.exit_code}; see {place.log}")
    told.outcome = outcome(place.store())
    return told


def killed(place: Place, seed: int, calm: Told, kills_a_step: int, weather: Weather) -> Told:
    """Run every step with some kills at random moments of it, each followed at once by the next.

    Moments count from when a process has imported all, for before that nothing is at stake.
    """
    rng = random.Random(seed)
    told = Told(seed)
    orphans: list[tuple[Life, str]] = []
    for step in STEPS[place.way]:
        if step == "watch":
            put_failures(place)
        for _ in range(rng.randint(0, 2 * kills_a_step)):
            weather.change(rng)
            refusal = weather.refuse(rng)
            if refusal is not None:
                _refused(place, step, refusal, weather, told)
                continue
            own = rng.random() < place.own_share
            life = place.begin(argv_of(step, place), own=own)
            name = rng.choice(SIGNALS)
            # Rather early than late: what a killed one had done, the next one has not to do.
            longest_s = calm.seconds[step] * (3 if own else rng.random())
            moment_s = rng.uniform(0, longest_s)
            if not own:
                life.wait_until_ready()
            if life.is_over(moment_s):
                _check(told, f"{step} before its kill", life.end(0).exit_code)
                break
            told.kills[f"{step} {name}"] += 1
            _kill(life, name, f"{step} {name}", told)
            orphans.append((life, f"{step} {name}"))
        weather.change(rng)
        life = place.begin(argv_of(step, place))
        _check(told, f"{step} to its end", life.end(_LIMIT_S).exit_code)
    told.met = weather.met()
    told.outcome = outcome(place.store())
    told.faults += differences(calm.outcome, told.outcome)
    for life, of in orphans:
        told.faults += [f"orphan of {of}: process {pid}" for pid in life.left_behind()]
    told.faults += [f"litter: {name}" for name in litter(place)]
    return told


def _refused(place: Place, step: Step, refusal: Refusal, weather: Weather, told: Told) -> None:
    """Run a step that the store refuses: it must say so once, and nothing else."""
    before = place.log.stat().st_size
    ended = place.begin(argv_of(step, place)).end(_LIMIT_S)
    if weather.n_refused() == 0:  # it had nothing to ask for by then
        _check(told, f"{step} before {refusal}", ended.exit_code)
        return
    told.refused[f"{step} {refusal}"] += 1
    said = place.log.read_bytes()[before:].decode(errors="replace")
    n_said = sum(SAID[refusal] in line for line in said.splitlines())
    if ended.exit_code == 0 or n_said != 1 or "Traceback" in said:
        told.faults.append(
            f"{refusal} in {step}: exit code {ended.exit_code}, said {n_said} times: {said[-2000:]}"
        )


def _kill(life: Life, name: Signal, of: str, told: Told) -> None:
    had_s = life.processor_s()
    life.send(name)
    if life.is_over(LEAVE_S):
        return
    had_s = life.processor_s() - had_s
    life.end(0)
    told.faults.append(
        f"stuck: {of} was not over after {LEAVE_S:.0f} s, {had_s:.1f} s of them on a processor"
    )


def _check(told: Told, of: str, exit_code: int | None) -> None:
    if exit_code != 0:
        told.faults.append(f"failed: {of}: exit code {exit_code}")


def litter(place: Place) -> Iterator[str]:
    """Temporary files that are left in the store's folder or in that for temporary files.

    Folders of killed processes go when the next process wants one in the same place.
    """
    remove_abandoned(place.scratch)
    left = (str(p.relative_to(place.scratch)) for p in place.scratch.iterdir())
    yield from (name for name in left if not name.startswith(_CACHE_OF_TORCH))
    if "://" not in place.store_url:
        root = Path(place.store_url)
        yield from (str(p.relative_to(root)) for p in root.rglob(".*") if p.is_file())


def forget(place: Place, names: Sequence[str] = ("store", "scratch")) -> None:
    """Take away what a story made, for the next one in the same place."""
    for name in names:
        shutil.rmtree(place.folder / name, ignore_errors=True)
    place.scratch.mkdir(exist_ok=True)
    if place.log.exists():
        os.truncate(place.log, 0)
