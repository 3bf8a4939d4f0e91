"""What each objective chooses on lines whose logits `benchmarks.gpu.full run --keep` left.

    python -m benchmarks.gpu.full_choices FOLDER [--seeds 0] [--blind | --draws 60]

Nothing is trained. --blind leaves out debug_heldout and test, for whoever changes a rule. --draws
asks what `both` is worth whatever val happens to be: as val serve images drawn from test, as
debug_val 100 from debug_heldout, and the others of each judge what is chosen.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dcd.cells.stages import (
    LINES,
    NONE,
    TARGETED,
    WHOLE_POOL,
    candidate,
    choose_point,
    points,
)
from dcd.evaluation.choice import Answers, Candidate, choose_model

OBJECTIVES = ("failures_first", "both")
DECIDE, SHOWN = ("val", "debug_val"), ("debug_heldout", "test")
VAL_IMAGES = (100, 200, 400, 800)
_DEBUG_VAL_IMAGES = 100


def read_answers(file: Path) -> list[dict[str, Answers]]:
    """What every network of `points` says, by split; splits that were not asked are left out."""
    with np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files}
    truth = {name.split()[0]: of for name, of in arrays.items() if name.endswith(" truth")}

    def at(shares: dict[str, float]) -> str:
        return ",".join(f"{end}={share:g}" for end, share in shares.items())

    return [
        {
            split: Answers(arrays[f"{split} {at(shares)}"], of)
            for split, of in truth.items()
            if f"{split} {at(shares)}" in arrays
        }
        for shares in points()
    ]


def judge(answers: Sequence[dict[str, Answers]]) -> list[Candidate]:
    """The candidates, as the product makes them."""
    return [
        candidate(shares, of["val"], of["debug_val"])
        for shares, of in zip(points(), answers, strict=True)
    ]


def lines(file: Path, is_blind: bool) -> Iterator[str]:
    """The line from the first stage's end to the second's, and the choices, as Markdown."""
    answers = read_answers(file)
    judged = judge(answers)
    splits = DECIDE if is_blind else (*DECIDE, *SHOWN)
    yield "| | " + " | ".join(splits) + " |"
    yield "|---" * (len(splits) + 1) + "|"

    def row(name: str, of: dict[str, Answers]) -> str:
        found = (f"{100 * of[s].right.mean():.1f}" if s in of else "–" for s in splits)
        return f"| {name} | " + " | ".join(found) + " |"

    on_line = [i for i, shares in enumerate(points()) if shares.keys() <= set(LINES[-1])]
    for i in sorted(on_line, key=lambda i: judged[i].alpha):
        yield row(judged[i].name, answers[i])
    yield row("none", answers[0])
    for objective in OBJECTIVES:
        choice = choose_point(judged, objective)
        yield row(f"**{objective}**: {judged[choice.index].name}", answers[choice.index])


def redrawn(file: Path, n_draws: int) -> Iterator[str]:
    """What `both` gains over the first stage's end, on average, by how many images val has."""
    answers = read_answers(file)
    asked = [i for i, of in enumerate(answers) if of.keys() >= set(SHOWN)]
    (first,) = (i for i in asked if points()[i] == {WHOLE_POOL: 1.0})
    yield "| images of val | bound | second end | debug_heldout | test | lost more than a point |"
    yield "|---|---|---|---|---|---|"
    n_test, n_failures = (len(answers[first][split].truth) for split in reversed(SHOWN))
    for n_val, built_on in itertools.product(VAL_IMAGES, (None, WHOLE_POOL)):
        if n_val > n_test / 2:
            continue
        found = []
        for draw in range(n_draws):
            rng = np.random.default_rng(draw)
            val, test = np.split(rng.permutation(n_test), [n_val])
            debug_val, failures = np.split(rng.permutation(n_failures), [_DEBUG_VAL_IMAGES])
            judged = [
                candidate(points()[i], of["test"].take(val), of["debug_heldout"].take(debug_val))
                for i, of in ((i, answers[i]) for i in asked)
            ]
            choice = choose_model(judged, (NONE, WHOLE_POOL), "both", built_on=built_on)
            gains = [
                answers[asked[choice.index]][split].take(rows).right.mean()
                - answers[first][split].take(rows).right.mean()
                for split, rows in (("debug_heldout", failures), ("test", test))
            ]
            found.append([judged[choice.index].shares.get(TARGETED, 0.0), *gains])
        share, gain, cost = np.array(found).T
        yield (
            f"| {n_val} | {'yes' if built_on else 'no'} | {share.mean():.2f} "
            f"| {100 * gain.mean():+.1f} | {100 * cost.mean():+.1f} "
            f"| {100 * (cost < -0.01).mean():.0f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--draws", type=int)
    args = parser.parse_args()
    for seed in args.seeds:
        file = args.folder / f"seed{seed}.npz"
        print(*(redrawn(file, args.draws) if args.draws else lines(file, args.blind)), sep="\n")


if __name__ == "__main__":
    main()
