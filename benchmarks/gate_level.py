"""How often does the gate's test on debug_val pass a model that is no better, once a recipe chose?

Models that are all as accurate as `none` on everything are judged, one of them is chosen by the
failures, and McNemar's test asks whether it is better than `none` on debug_val. Chosen by the error
sample, which is what `dcd.cells.recipe` does, the test keeps its 5 %; chosen by the very images of
debug_val it would not, unless it tests at 5 % / (models), as the gate does for networks that full
training chooses by debug_val.

python -m benchmarks.gate_level [--trials N]
"""

import argparse
from typing import Literal, get_args

import numpy as np

from dcd.cells.lines import BASELINES, points
from dcd.config import Objective
from dcd.evaluation.bursts import sign_flip
from dcd.evaluation.choice import Candidate, choose_model
from dcd.gate.decision import LEVEL

ChosenOn = Literal["error_sample", "debug_val", "debug_val, tested at 5 % / models"]
_ACCURACY, _OWN = 0.6, 0.5  # of every model; the share of an image's luck that is the model's own
_VAL, _FAILURES = 1000, 100


def passed_share(chosen_on: ChosenOn, objective: Objective, trials: int, seed: int = 0) -> float:
    """The share of trials in which a chosen model, no better than `none`, passes on debug_val."""
    rng = np.random.default_rng(seed)
    passed = 0
    for _ in range(trials):
        val, errors, debug_val = (_outcomes(rng, n) for n in (_VAL, _FAILURES, _FAILURES))
        seen = errors if chosen_on == "error_sample" else debug_val
        level = LEVEL / (1 if chosen_on in ("error_sample", "debug_val") else len(points()))
        models = [
            Candidate(point.shares, val[i], seen[i], point.line_name, point.alpha)
            for i, point in enumerate(points())
        ]
        chosen = choose_model(models, BASELINES, objective).index
        none = next(i for i, model in enumerate(models) if model.name == "none")
        changes = debug_val[chosen].astype(int) - debug_val[none]
        passed += sign_flip(changes, None) <= level
    return passed / trials


def _outcomes(rng: np.random.Generator, n: int) -> np.ndarray:
    """(models, n) bool: whether each model is right, all equally often, on much the same images."""
    shared = rng.normal(size=n)
    own = rng.normal(size=(len(points()), n))
    mixed = np.sqrt(1 - _OWN) * shared + np.sqrt(_OWN) * own
    return mixed > np.quantile(rng.normal(size=100_000), 1 - _ACCURACY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    print("| chosen on | failures_first | both | 1 |\n|---|---|---|---|")
    objectives: tuple[Objective, ...] = ("failures_first", "both", 1.0)
    for chosen_on in get_args(ChosenOn):
        shares = [100 * passed_share(chosen_on, objective, trials) for objective in objectives]
        print(f"| {chosen_on} | {' | '.join(f'{share:.1f} %' for share in shares)} |")


if __name__ == "__main__":
    main()
