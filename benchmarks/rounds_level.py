"""How often do rounds promote a model that is no better, when every round is looked at?

Each trial is a run of rounds whose models are all worthless: as accurate as `none` on debug_val and
on test, each with errors of its own. The planning, the choice of the round and the gate are the
real ones, on predictions made up. Without the correction, at 5 % a round, more would pass.

python -m benchmarks.rounds_level [--trials N] [--rounds R]
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.config import GoalConfig
from dcd.evaluation.round_figures import RoundFigures
from dcd.gate.decision import LEVEL, Decision, decide
from dcd.rounds.plan import best_round, stop_reason
from dcd.tables import schemas

_ACCURACY = {"debug_val": 0.6, "test": 0.85}
_IMAGES = {"debug_val": 100, "test": 10_000}
# Share of an image's luck that is a model's own. On test it is small, so that nearly all worthless
# models are no worse within the margin, and debug_val alone holds them back.
_OWN = {"debug_val": 0.5, "test": 0.02}
_MARGIN = 0.005


@dataclass(frozen=True)
class Trial:
    """One run of worthless rounds: whether it passes the gate, and how many rounds there were."""

    passed: bool
    n_rounds: int


def trial(goal: GoalConfig, level: float, seed: int) -> Trial:
    """Go through rounds until they stop, take the best one and ask the gate at this level."""
    rng = np.random.default_rng(seed)
    shared = {split: rng.normal(size=n) for split, n in _IMAGES.items()}
    none = _predictions(rng, shared)
    figures = [_figures(0, none, holds=True)]
    found: list[Decision] = []
    while True:
        model = _predictions(rng, shared)
        decision = decide(none, model, _MARGIN, level)
        found.append(decision)
        figures.append(_figures(len(found), model, holds=decision.test.passed))
        if stop_reason(goal, tuple(figures)) is not None:
            break
    chosen = best_round(figures[1:])
    return Trial(found[chosen].promoted, len(found))


def passed_share(goal: GoalConfig, level: float, trials: int) -> tuple[float, float]:
    """The share of trials in which a worthless model passes, and the mean number of rounds."""
    done = [trial(goal, level, seed) for seed in range(trials)]
    return float(np.mean([t.passed for t in done])), float(np.mean([t.n_rounds for t in done]))


def _predictions(rng: np.random.Generator, shared: dict[str, np.ndarray]) -> pa.Table:
    """A model that is right as often as any other, mostly on the same images."""
    tables = []
    for split, common in shared.items():
        own = rng.normal(size=len(common))
        mixed = np.sqrt(1 - _OWN[split]) * common + np.sqrt(_OWN[split]) * own
        right = mixed > _QUANTILE[split]
        n = len(common)
        columns = {
            "model": pa.repeat("model", n),
            "seed": pa.repeat(pa.scalar(0, pa.int64()), n),
            "split": pa.repeat(split, n),
            "image_id": pa.array([f"{split}-{i:05d}" for i in range(n)]),
            "label": pa.repeat("yes", n),
            "predicted": pa.array(np.where(right, "yes", "no")),
            "confidence": pa.repeat(pa.scalar(0.5, pa.float32()), n),
            "mode": pa.nulls(n, pa.string()),
        }
        tables.append(pa.table(columns, schema=schemas.PREDICTIONS))
    return pa.concat_tables(tables)


_QUANTILE = {
    split: float(np.quantile(np.random.default_rng(0).normal(size=1_000_000), 1 - share))
    for split, share in _ACCURACY.items()
}


def _figures(number: int, predictions: pa.Table, holds: bool) -> RoundFigures:
    shares = {}
    for split in _IMAGES:
        of_split = np.array(predictions["split"].to_pylist()) == split
        right = np.array(predictions["predicted"].to_pylist()) == "yes"
        shares[split] = float(right[of_split].mean())
    value = shares["debug_val"]
    return RoundFigures(number, 1, 1, number, value, value, 0.0, shares["test"], holds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    n = args.rounds
    every = GoalConfig(target=1.0, budget=1000, rounds=n, patience=n)
    lucky = GoalConfig(target=_ACCURACY["debug_val"] + 0.08, budget=1000, rounds=n, patience=n)
    print(f"| rounds stop | level of a round | promoted, of {args.trials} | rounds, mean |")
    print("|---|---|---|---|")
    for words, goal in ((f"after {n}", every), ("at a goal within luck's reach", lucky)):
        for level in (LEVEL / n, LEVEL):
            share, rounds = passed_share(goal, level, args.trials)
            print(f"| {words} | {100 * level:.3g} % | {100 * share:.1f} % | {rounds:.1f} |")


if __name__ == "__main__":
    main()
