"""A goal reached in rounds, beside one round that spends the same budget at once.

python -m benchmarks.one_round [PATH.yaml] [--seeds 0 1 2] [--per-round 50] [--rounds 3]
    [--target 0.84]

The config's goal is run as it is, by default that of benchmarks/cifar100_rounds.yaml, and once more
in a single round that may take as many images as all of those together. What differs is only
whether the images are asked for at once, or for what still fails. All is kept in the store: what
was run before is read. Sizes are to be chosen by debug_val alone.
"""

import argparse
import sys

from benchmarks.real import benchmark_config
from dcd.config import GoalConfig, RunConfig, load_config
from dcd.errors import DCDError
from dcd.evaluation.round_figures import RoundFigures
from dcd.runs import loop
from flows.cli.console import leaving


def with_goal(config: RunConfig, **changes: object) -> RunConfig:
    """The config with its goal changed; checked as one that is read."""
    assert config.goal is not None
    goal = GoalConfig.model_validate(config.goal.model_dump() | changes)
    return config.model_copy(update={"goal": goal})


def row(name: str, of: RoundFigures) -> str:
    """A line of the table."""
    shares = " | ".join(f"{100 * share:.1f}" for share in (of.debug_val, of.debug_heldout, of.test))
    return f"| {name} | {of.n_asked:,.0f} | {of.n_taken:,.0f} | {shares} | {of.holds} |"


def compare(config: RunConfig, n_rounds: int, per_round: int) -> None:
    """Run both, and print a row a round."""
    budget = n_rounds * per_round
    asked = {"budget": budget, "patience": n_rounds}
    several = {"rounds": n_rounds, "images_per_round": per_round}
    ways = {"round": several, "one round": {"rounds": 1, "images_per_round": budget}}
    print("| | failures asked for | images so far | debug_val | debug_heldout | test | holds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    said: list[str] = []
    for way, changes in ways.items():
        info = loop.run(with_goal(config, **asked, **changes))
        assert info.rounds is not None
        for of in info.rounds.figures:
            if of.number:
                print(row(way if way == "one round" else f"{way} {of.number}", of), flush=True)
            elif way == "round":
                print(row("none", of), flush=True)
        said.append(f"{way}: {info.rounds.stopped}. {' '.join(info.rounds.sentences)}")
        said += [f"  gate: {sentence}" for sentence in info.gate]
    print("\n".join(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="cifar100_rounds", help="with a goal")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--per-round", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--target", type=float)
    args = parser.parse_args()
    try:
        config = load_config(benchmark_config(args.config))
        if args.seeds:
            config = config.model_copy(update={"seeds": tuple(args.seeds)})
        if config.goal is None:
            parser.error(f"{args.config} has no goal")
        if args.target:
            config = with_goal(config, target=args.target)
        assert config.goal is not None
        per_round = args.per_round or config.goal.images_per_round
        if per_round is None:
            parser.error(f"{args.config}: its goal says no images_per_round; give --per-round")
        compare(config, args.rounds or config.goal.rounds, per_round)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
