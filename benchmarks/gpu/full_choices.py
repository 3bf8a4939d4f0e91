"""What each objective chooses on lines whose logits `benchmarks.gpu.full run --keep` left.

    python -m benchmarks.gpu.full_choices FOLDER [--seeds 0] [--blind]

Nothing is trained. --blind leaves out debug_heldout and test, for whoever changes a rule.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dcd.cells.stages import LINES, candidate, choose_point, points
from dcd.evaluation.choice import Answers, Candidate

OBJECTIVES = ("failures_first", "both")
DECIDE, SHOWN = ("val", "debug_val"), ("debug_heldout", "test")


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--blind", action="store_true")
    args = parser.parse_args()
    for seed in args.seeds:
        print(*lines(args.folder / f"seed{seed}.npz", args.blind), sep="\n")


if __name__ == "__main__":
    main()
