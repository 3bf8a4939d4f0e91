"""What people's verifications gain, planned or not, with the true labels as the reviewer.

python -m benchmarks.review_plan cifar10n|cifar100|domains|PATH.yaml [--n 0 50 100 200 400]
    [--rules planned random nearest] [--draws 3] [--objective fixed]
    [--seeds 0 1 2]

For every seed and rule n images of the pool are decided about as the true labels say, accepted or
relabelled, as decisions in the store; then the images are selected and the model is trained as
`dcd run` does. planned: `dcd review plan`; random: of the whole pool, --draws times; nearest: the
picks, those nearest to a failure first. The decisions are taken out of the store between the rules:
it is one of its own, beside that of the config. Rules are to be chosen by debug_val alone. "used":
verified images that are used as failures.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.cases import Case
from benchmarks.real import benchmark_config
from dcd.cells.cell import run_cell
from dcd.config import Objective, load_config
from dcd.errors import DCDError
from dcd.index.read import pool_rows
from dcd.reviews.decisions import Decision, record
from dcd.selection.picks import targeted_picks
from dcd.selection.review_plan import plan_review
from dcd.selection.reviewed import match_reviews
from dcd.selection.select import select
from dcd.splits.label_table import read_truth
from dcd.splits.split import blocked_content
from dcd.store import keys
from dcd.tables.rows import without
from flows.cli.console import leaving

_JUDGED = ("debug_val", "debug_heldout", "test")
RULES = ("planned", "random", "nearest")


def chosen_images(case: Case, seed: int, rule: str, n: int, draw: int = 0) -> pa.Table:
    """image_id, label, content_hash of the pool images that a rule sends to the reviewer."""
    splits = case.splits(seed)
    rows = pool_rows(case.store, case.index).select(["image_id", "label", "content_hash"])
    if rule == "random":
        rows = without(rows, blocked_content(case.store, splits))
        drawn = np.random.default_rng([seed, n, draw]).permutation(rows.num_rows)[:n]
        return rows.take(pa.array(drawn))
    selection = case.select(case.config.selection, seed)
    of = selection.id
    if rule == "planned":
        of = plan_review(case.store, case.index, splits, selection, n).id
    picks = targeted_picks(case.store.read_table(keys.selection_picks(of)))
    picks = picks.sort_by([("min_distance", "ascending"), ("image_id", "ascending")]).slice(0, n)
    pairs = set(zip(picks["image_id"].to_pylist(), picks["label"].to_pylist(), strict=True))
    every = zip(rows["image_id"].to_pylist(), rows["label"].to_pylist(), strict=True)
    return rows.filter(pa.array([pair in pairs for pair in every], pa.bool_()))


def decide(case: Case, seed: int, images: pa.Table) -> None:
    """Put what the true labels say into the store, in the place of all decisions before."""
    _take_back(case)
    truth = read_truth(case.config.pool)
    assert truth is not None
    at = pc.index_in(images["image_id"], value_set=truth["image_id"].combine_chunks())
    decisions = []
    for row, label in zip(
        images.to_pylist(), truth["label"].take(at.combine_chunks()).to_pylist(), strict=True
    ):
        right = row["label"] == label
        decisions.append(
            Decision(
                f"{seed}-{row['image_id']}",
                "truth",
                case.index.pool,
                row["image_id"],
                row["content_hash"],
                row["label"],
                "accept" if right else "relabel",
                None if right else label,
            )
        )
    if decisions:
        record(case.store, decisions)


def _take_back(case: Case) -> None:
    """Take all decisions out of the store: a plan leaves out what somebody has decided about."""
    for key in case.store.keys_under("reviews"):
        case.store.delete(key)


def accuracies(case: Case, seed: int) -> tuple[list[float], int]:
    """Select and train with what is decided; accuracies in per cent, in the order of _JUDGED.

    And how many verified images are used as failures.
    """
    reviewed = match_reviews(case.store, case.index)
    splits, config = case.splits(seed), case.config.selection
    selection = select(case.store, case.pool, case.index, splits, config, reviewed)
    plan = replace(case.plan(case.method("selected"), seed), selection=selection)
    cell = run_cell(case.store, plan)
    return case.accuracies(cell.id, _JUDGED), selection.n_failing


def measure(case: Case, rules: Sequence[str], sizes: Sequence[int], draws: int = 1) -> None:
    """Print a row for every seed, rule, n and draw, then the means over seeds and draws."""
    print(f"| seed | rule | n | {' | '.join(_JUDGED)} | wrong labels | used |")
    print("|---|---|---|" + "---|" * (len(_JUDGED) + 2), flush=True)
    found: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for seed in case.config.seeds:
        for n in sizes:
            once = [(rule, 0) for rule in rules if rule != "random"]
            drawn = [("random", draw) for draw in range(draws)] if "random" in rules else []
            for rule, draw in [*once, *drawn] if n else [("none", 0)]:
                _take_back(case)
                images = chosen_images(case, seed, rule if n else "random", n, draw)
                decide(case, seed, images)
                scores, n_used = accuracies(case, seed)
                found[rule, n].append(scores)
                cells = " | ".join(f"{score:.1f}" for score in scores)
                wrong = _wrong(case, images)
                print(f"| {seed} | {rule} | {n} | {cells} | {wrong} | {n_used} |", flush=True)
    for (rule, n), scores in found.items():
        mean = np.mean(scores, axis=0)
        cells = " | ".join(f"{score:.2f}" for score in mean)
        print(f"| mean of {len(scores)} | {rule} | {n} | {cells} | | |", flush=True)


def _wrong(case: Case, images: pa.Table) -> str:
    """The share of the images whose label is wrong."""
    return f"{1 - case.right_labels(images):.0%}" if images.num_rows else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="cifar10n, cifar100, domains, or the path of a config")
    parser.add_argument("--n", type=int, nargs="+", default=[0, 50, 100, 200, 400])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--draws", type=int, default=1, help="of the random images")
    parser.add_argument("--objective", choices=("failures_first", "both", "fixed"))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the config")
    args = parser.parse_args()
    try:
        config = load_config(benchmark_config(args.benchmark))
        objective: Objective = args.objective or config.selection.objective
        selection = config.selection.model_copy(update={"objective": objective})
        seeds = tuple(args.seeds or config.seeds)
        own = {"store": f"{config.store}-reviews", "selection": selection, "seeds": seeds}
        measure(Case.embedded(config.model_copy(update=own)), args.rules, args.n, args.draws)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
