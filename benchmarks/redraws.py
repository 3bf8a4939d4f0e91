"""Twenty redraws of the public splits: does what is chosen hold where nobody looked before?

Within the labelled images of a public seed, error_sample, debug_val and debug_heldout are drawn
anew among themselves (some failure modes left out, fewer or more failures), train and test among
themselves, and the pool is thinned to a half or a fifth, or left with more of its failing kind.
Each redraw is a run of its own, from splits to gate, with embeddings shared by all.

python -m benchmarks.redraws [--draws N] [--only NAME] [--json FILE]; the data must lie beside the
checkout, in ../shared/data. The draws are fixed by their number.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.real import missing_data
from dcd.config import RunConfig, load_config
from flows.cli.console import configure_prefect, leaving

_HOME = Path(__file__).parent
BENCHMARKS = ("cifar10n", "cifar100", "domains")
BASELINES = ("none", "error_sample", "whole_pool", "filtered_pool")
THINNING = ("all", "half", "fifth", "more_failing")
N_DRAWS = 20
_FAILING = ("error_sample", "debug_val", "debug_heldout")


@dataclass(frozen=True)
class Draw:
    """What is changed in one redraw. error_sample and debug_val: images of each mode."""

    number: int
    benchmark: str
    seed: int
    n_modes_left_out: int
    error_sample: int
    debug_val: int
    thinning: str


@dataclass(frozen=True)
class Outcome:
    """Accuracy in per cent by method, on debug_heldout and test, and what the gate said."""

    draw: Draw
    debug_heldout: dict[str, float]
    test: dict[str, float]
    passed: bool
    reasons: tuple[str, ...]
    chosen: str

    def dominated_by(self, method: str) -> list[str]:
        """The baselines that are better than the method on both axes."""
        return [
            b
            for b in BASELINES
            if self.debug_heldout[b] > self.debug_heldout[method]
            and self.test[b] > self.test[method]
        ]


def plan_draws(n: int = N_DRAWS) -> list[Draw]:
    """The draws, always the same; every benchmark and every thinning has its turn."""
    draws = []
    for number in range(n):
        rng = np.random.default_rng(1500 + number)
        name = BENCHMARKS[number % len(BENCHMARKS)]
        few, usual, many = (4, 8, 12) if name == "domains" else (10, 20, 30)
        draws.append(
            Draw(
                number,
                name,
                seed=int(rng.integers(3)),
                n_modes_left_out=int(rng.integers(3)),
                error_sample=int(rng.choice([few, usual, many])),
                debug_val=usual,
                thinning=THINNING[(number // len(BENCHMARKS)) % len(THINNING)],
            )
        )
    return draws


def redrawn_splits(splits: pa.Table, draw: Draw, by_label: bool) -> pa.Table:
    """image_id, role, label, mode with the roles drawn anew. by_label: its classes are modes."""
    rng = np.random.default_rng(2500 + draw.number)
    rows = splits.to_pylist()
    modes: dict[str, list[dict[str, str]]] = {}
    for row in (row for row in rows if row["role"] in _FAILING):
        modes.setdefault(str(row["label"] if by_label else row["mode"]), []).append(row)
    left_out = set(rng.permutation(sorted(modes))[: draw.n_modes_left_out].tolist())
    drawn = []
    for mode, members in sorted(modes.items()):
        if mode in left_out:
            continue
        # A mode keeps at least a third of its images for debug_heldout.
        n_error = min(draw.error_sample, len(members) // 3)
        n_val = min(draw.debug_val, len(members) // 3)
        for place, i in enumerate(rng.permutation(len(members)).tolist()):
            role = "debug_heldout"
            if place < n_error + n_val:
                role = "error_sample" if place < n_error else "debug_val"
            drawn.append({**members[i], "role": role})
    usual = [row for row in rows if row["role"] in ("train", "test")]
    n_train: dict[str, int] = {}
    for row in usual:
        n_train[row["label"]] = n_train.get(row["label"], 0) + (row["role"] == "train")
    for i in rng.permutation(len(usual)).tolist():
        n_train[usual[i]["label"]] -= 1
        role = "train" if n_train[usual[i]["label"]] >= 0 else "test"
        drawn.append({**usual[i], "role": role})
    return pa.Table.from_pylist(drawn, splits.schema)


def thinned_pool(pool: pa.Table, failing_kind: np.ndarray, draw: Draw) -> pa.Table:
    """image_id, weak_label of what is left of the pool.

    failing_kind: (P,) bool, which images are of the failing kind: kept whole by more_failing, which
    halves the others.
    """
    rng = np.random.default_rng(3500 + draw.number)
    share = {"all": 1.0, "half": 0.5, "fifth": 0.2, "more_failing": 0.5}[draw.thinning]
    kept = rng.random(pool.num_rows) < share
    if draw.thinning == "more_failing":
        kept |= failing_kind
    return pool.select(["image_id", "weak_label"]).filter(pa.array(kept))


def redraw(config: RunConfig, draw: Draw, folder: Path) -> RunConfig:
    """The run of one draw; its splits and the labels of its pool are written to `folder`."""
    assert config.train.labels is not None
    data = Path(config.train.labels).parent.parent
    splits = pq.read_table(config.train.labels.format(seed=draw.seed))
    pool = pa.concat_tables(
        pq.read_table(file, columns=["image_id", "weak_label"])
        for file in sorted(data.glob("pool-*.parquet"))
    )
    chosen = redrawn_splits(splits, draw, by_label=draw.benchmark == "domains")
    kind = _failing_kind(data, pool["image_id"].to_pylist(), chosen, draw)
    pq.write_table(chosen, folder / "splits.parquet")
    pq.write_table(thinned_pool(pool, kind, draw), folder / "pool.parquet")
    given = config.model_dump(mode="json")
    for split in ("train", "test", *_FAILING):
        given[split]["labels"] = str(folder / "splits.parquet")
    if draw.thinning != "all":
        given["pool"]["labels"] = str(folder / "pool.parquet")
    given["selection"] = {**given["selection"], "objective": "failures_first"}
    given["name"] = f"redraw{draw.number:02d}"
    given["seeds"] = [draw.seed]
    given["compare"] = {"baselines": list(BASELINES), "selections": {"both": {"objective": "both"}}}
    given["gate"] = {**given["gate"], "policy": "decide"}
    return RunConfig.model_validate(given)


def _failing_kind(data: Path, ids: Sequence[str], splits: pa.Table, draw: Draw) -> np.ndarray:
    """Which pool images are of the failing kind: cartoons, or of a class that fails."""
    truth = pq.read_table(data / "truth.parquet")
    column = "domain" if draw.benchmark == "domains" else "label"
    failing = {r["label"] for r in splits.to_pylist() if r["role"] == "error_sample"}
    wanted = {"cartoon"} if draw.benchmark == "domains" else failing
    kind = dict(zip(truth["image_id"].to_pylist(), truth[column].to_pylist(), strict=True))
    return np.array([kind.get(i) in wanted for i in ids])


def run(draw: Draw) -> Outcome:
    """One redraw from its splits to the gate."""
    from dcd.gate.record import read_record
    from dcd.runs.run import read_metrics
    from dcd.store import Store, keys
    from flows.debug_model import debug_model

    config = load_config(_HOME / f"{draw.benchmark}.yaml")
    with tempfile.TemporaryDirectory(prefix="dcd-redraw-") as scratch:
        info = debug_model(redraw(config, draw, Path(scratch)))
    found: dict[str, dict[str, float]] = {"debug_heldout": {}, "test": {}}
    for row in read_metrics(config.store, info.run_id):
        if row["mode"] is None and row["split"] in found:
            found[str(row["split"])][str(row["method"])] = 100 * float(str(row["accuracy"]))
    store = Store(config.store)
    gate = read_record(store, info.run_id)
    assert gate is not None
    card = json.loads(store.read_bytes(keys.run(info.run_id, "card.json")))
    return Outcome(
        draw,
        found["debug_heldout"],
        found["test"],
        gate.outcome == "passed",
        tuple(gate.reasons),
        " ".join(card["chosen"]),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """A row a redraw, then how often what was asked for held."""
    lines = [
        "| draw | data, seed | modes left out | failures a mode | pool | none | whole_pool "
        "| filtered_pool | selected | both | dominated | gate |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        d = o.draw
        scores = [
            f"{o.debug_heldout[m]:.1f} / {o.test[m]:.1f}"
            for m in ("none", "whole_pool", "filtered_pool", "selected", "both")
        ]
        cells = [
            str(d.number),
            f"{d.benchmark}, {d.seed}",
            str(d.n_modes_left_out),
            str(d.error_sample),
            d.thinning,
            *scores,
            ", ".join(o.dominated_by("selected")) or "no",
            "passed" if o.passed else "refused",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n_dominated = sum(bool(o.dominated_by("selected")) for o in outcomes)
    n_passed = sum(o.passed for o in outcomes)
    lines += [
        "",
        f"debug_heldout / test in per cent. Of {len(outcomes)} redraws selected is dominated in "
        f"{n_dominated}; the gate passes {n_passed}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=N_DRAWS, help="how many, from the first")
    parser.add_argument("--only", choices=BENCHMARKS, help="those of one benchmark")
    parser.add_argument("--json", type=Path, help="write the outcomes there")
    args = parser.parse_args()
    draws = [d for d in plan_draws(args.draws) if args.only in (None, d.benchmark)]
    for name in sorted({d.benchmark for d in draws}):
        if complaint := missing_data(_HOME / f"{name}.yaml"):
            print(complaint, file=sys.stderr)
            sys.exit(2)
    configure_prefect(verbose=False)
    outcomes = []
    for draw in draws:
        outcomes.append(run(draw))
        print(table(outcomes[-1:]).splitlines()[2], flush=True)
        if args.json is not None:
            found = [asdict(outcome) for outcome in outcomes]
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(outcomes))


if __name__ == "__main__":
    leaving(main)
