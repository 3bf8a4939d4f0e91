"""Influence of training images on failures, against leaving them out and fitting again.

python -m benchmarks.influence cifar10n|cifar100|domains|PATH.yaml [--failures N] [--images N]
    [--shared]

The default recipe is trained as `dcd run` does, at the first seed. For failures of debug_heldout
that its model gets wrong, images are chosen over the whole order of foretold effects; each is left
out in turn, all heads of the model are fitted to convergence without it, and Spearman's rank
correlation of foretold and measured changes of the margin is told. With --shared all failures are
asked about the same images, those at both ends of each one's order, so that a fit serves them all.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.cases import Case
from benchmarks.real import benchmark_config
from dcd.cells.cell import run_cell
from dcd.cells.fits import CellFits, fits_of_cell
from dcd.config import load_config
from dcd.errors import DCDError
from dcd.influence.effects import RemovalEffects, answer_of, removal_effects
from dcd.influence.refits import check, check_all, spread_rows
from dcd.splits.split import split_table
from dcd.tables.vectors import embedding_matrix
from flows.cli.console import leaving


def wrong_answers(case: Case, found: CellFits, seed: int, n: int) -> list[tuple[str, np.ndarray]]:
    """Label and features of n images of debug_heldout that the model gets wrong, spread evenly."""
    table = split_table(case.store, case.splits(seed)["debug_heldout"])
    features, labels = embedding_matrix(table), table["label"].to_pylist()
    predicted = (features @ found.head.weight.T + found.head.bias).argmax(axis=1)
    wrong = [i for i, p in enumerate(predicted) if found.head.classes[p] != labels[i]]
    chosen = np.unique(np.linspace(0, len(wrong) - 1, min(n, len(wrong))).round().astype(int))
    return [(labels[wrong[i]], features[wrong[i]]) for i in chosen]


def ends(effects: Sequence[RemovalEffects], used: np.ndarray, n: int) -> np.ndarray:
    """Choose n images for several answers: in turns, those at either end of each one's order."""
    orders = [used[np.argsort(of.margin[used], kind="stable")] for of in effects]
    chosen: dict[int, None] = {}
    for depth in range(len(used)):
        for order in orders:
            for row in (order[depth], order[-1 - depth]):
                if len(chosen) < n:
                    chosen[int(row)] = None
        if len(chosen) == n:
            break
    return np.array(sorted(chosen))


def measure_shared(case: Case, n_failures: int, n_images: int) -> None:
    """The same with one set of images for all failures."""
    seed = case.config.seeds[0]
    plan = case.plan(case.method("selected"), seed)
    run_cell(case.store, plan)
    found = fits_of_cell(case.store, plan)
    used = np.unique(np.concatenate([fit.rows for fit in found.fits]))
    asked = wrong_answers(case, found, seed, n_failures)
    effects = [
        removal_effects(
            found.fits,
            found.images.num_rows,
            answer_of(found.head, features, found.head.classes.index(label)),
            features,
        )
        for label, features in asked
    ]
    rows = ends(effects, used, n_images)
    print("| label | margin | damping | rank correlation | Pearson's |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    checks = check_all(found.fits, effects, [features for _, features in asked], rows)
    for (label, _), of, checked in zip(asked, effects, checks, strict=True):
        pearson = float(np.corrcoef(checked.foretold, checked.measured)[0, 1])
        print(
            f"| {label} | {of.answer.margin:.2f} | {of.damping:.2g} "
            f"| {checked.rank_correlation:.3f} | {pearson:.3f} |"
        )
    ranks = [checked.rank_correlation for checked in checks]
    print(f"least {min(ranks):.3f}, median {np.median(ranks):.3f}, n {len(ranks)}")


def measure(case: Case, n_failures: int, n_images: int) -> None:
    """Train, explain, leave out, and print a row a failure."""
    seed = case.config.seeds[0]
    plan = case.plan(case.method("selected"), seed)
    run_cell(case.store, plan)
    started = time.perf_counter()
    found = fits_of_cell(case.store, plan)
    used = np.unique(np.concatenate([fit.rows for fit in found.fits]))
    parts = ", ".join(f"{f.share:g} {f.name} ({len(f.rows):,} images)" for f in found.fits)
    print(f"model: {parts}; fitted again in {time.perf_counter() - started:.0f} s", flush=True)
    print("| label | margin | foretelling, s | refits, s | rank correlation | Pearson's |")
    print("|---|---|---|---|---|---|", flush=True)
    for label, features in wrong_answers(case, found, seed, n_failures):
        answer = answer_of(found.head, features, found.head.classes.index(label))
        started = time.perf_counter()
        effects = removal_effects(found.fits, found.images.num_rows, answer, features)
        foretold = time.perf_counter()
        rows = spread_rows(effects, used, n_images)
        checked = check(found.fits, effects, features, rows)
        seconds = foretold - started, time.perf_counter() - foretold
        pearson = float(np.corrcoef(checked.foretold, checked.measured)[0, 1])
        print(
            f"| {label} | {answer.margin:.2f} | {seconds[0]:.1f} | {seconds[1]:.0f} "
            f"| {checked.rank_correlation:.3f} | {pearson:.3f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="cifar10n, cifar100, domains, or the path of a config")
    parser.add_argument("--failures", type=int, default=3)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--shared", action="store_true", help="the same images for all failures")
    args = parser.parse_args()
    try:
        config = load_config(benchmark_config(args.benchmark))
        way = measure_shared if args.shared else measure
        way(Case.embedded(config), args.failures, args.images)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
