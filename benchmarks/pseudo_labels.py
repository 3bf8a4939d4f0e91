"""What images without a label gain, with the labels of a third of the pool hidden.

python -m benchmarks.pseudo_labels cifar10n|cifar100|domains|PATH.yaml
    [--min-posterior 0.9 ...] [--hidden 0.333] [--objective fixed] [--labels-only]

The weak labels of a share of the pool's images, drawn once by their ids, are taken away by a table
of the others. Three arms then run `selected` as `dcd run` does: all labels there, the hidden images
left out, and hidden images labelled by `pool.unlabelled: posterior`. The share of right ones among
hidden labels, pseudo-labels and the rest is told from the true labels, which no arm sees. The
threshold is to be chosen by debug_val alone.
"""

import argparse
import glob
import sys
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases import Case
from benchmarks.real import benchmark_config
from dcd.cells.cell import run_cell
from dcd.config import Objective, RunConfig, load_config
from dcd.errors import DCDError
from dcd.index.build import cluster_pool
from dcd.label_noise.pseudo_labels import label_unlabelled, read_pseudo_labels
from dcd.selection.picks import targeted_picks
from dcd.store import keys
from flows.cli.console import leaving

_JUDGED = ("debug_val", "debug_heldout", "test")


def given_labels(config: RunConfig, hidden: float, folder: Path) -> Path:
    """Write the weak labels of the images that are not hidden; the file."""
    tables = [
        pq.read_table(file, columns=["image_id", "weak_label"])
        for file in sorted(glob.glob(config.pool.images))
    ]
    every = pa.concat_tables(tables).rename_columns(["image_id", "label"])
    at = np.array([zlib.crc32(i.encode()) for i in every["image_id"].to_pylist()]) / 2**32
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{config.name}-given-{hidden:g}.parquet"
    pq.write_table(every.filter(pa.array(at >= hidden)), file)
    return file


def at_seed(case: Case, seed: int) -> Case:
    """The case whose index holds what has no label under what it is, by that seed's train."""
    pool = case.config.pool
    names = [shard.name for shard in case.shards[case.pool.id]]
    train = case.splits(seed)["train"]
    return replace(case, index=label_unlabelled(case.store, pool, names, case.index, train))


def labels_row(case: Case, seed: int) -> str:
    """How many images got a label, and how many of these are right."""
    pseudo = case.index.pseudo
    assert pseudo is not None
    found = read_pseudo_labels(case.store, case.index)
    return (
        f"| {seed} | {pseudo.min_posterior:g} | {pseudo.n_images:,} | {pseudo.n_labelled:,} "
        f"| {pseudo.n_unsure:,} | {pseudo.n_known:,} | {100 * case.right_labels(found):.1f} |"
    )


def selected(case: Case, seed: int) -> tuple[list[float], float, int, int]:
    """Accuracies in per cent as _JUDGED; right labels, number and unlabelled of targeted picks."""
    plan = case.plan(case.method("selected"), seed)
    cell = run_cell(case.store, plan)
    picks = targeted_picks(case.store.read_table(keys.selection_picks(plan.selection.id)))
    n_guessed = 0
    if "posterior" in picks.column_names:
        n_guessed = picks.num_rows - picks["posterior"].null_count
    share = 100 * case.right_labels(picks)
    return case.accuracies(cell.id, _JUDGED), share, picks.num_rows, n_guessed


def arms(config: RunConfig, file: Path, thresholds: Sequence[float]) -> dict[str, Case]:
    """The cases that are compared, by name."""
    whole = Case.embedded(config)
    found = {"all labels": whole}
    for least in (None, *thresholds):
        asked = {"labels": str(file), "label_column": "label"}
        how = {} if least is None else {"unlabelled": "posterior", "min_posterior": least}
        pool = config.pool.model_copy(update={**asked, **how})
        of_arm = config.model_copy(update={"pool": pool})
        shards = whole.shards[whole.pool.id]
        index = cluster_pool(whole.store, whole.pool, whole.index.encoder_id, shards, pool)
        name = "a third left out" if least is None else f"posterior {least:g}"
        found[name] = replace(whole, config=of_arm, index=index)
    return found


def measure(case_of: dict[str, Case], *, labels_only: bool) -> None:
    """Print the pseudo-labels of every seed, then what each arm reaches, then means."""
    guessing = {name: case for name, case in case_of.items() if name.startswith("posterior")}
    print("| seed | threshold | hidden | labelled | not sure | known | right, % |")
    print("|---|---|---|---|---|---|---|", flush=True)
    seeds = next(iter(case_of.values())).config.seeds
    for case in guessing.values():
        for seed in seeds:
            print(labels_row(at_seed(case, seed), seed), flush=True)
    if labels_only:
        return
    print(f"\n| seed | arm | {' | '.join(_JUDGED)} | picks | of them unlabelled | right, % |")
    print("|---|---|" + "---|" * (len(_JUDGED) + 3), flush=True)
    scores: dict[str, list[list[float]]] = defaultdict(list)
    for seed in seeds:
        for name, case in case_of.items():
            of_seed = at_seed(case, seed)
            accuracy, share, n_picks, n_guessed = selected(of_seed, seed)
            scores[name].append([*accuracy, n_picks, n_guessed, share])
            cells = " | ".join(f"{score:.1f}" for score in accuracy)
            print(f"| {seed} | {name} | {cells} | {n_picks} | {n_guessed} | {share:.1f} |",
                  flush=True)  # fmt: skip
    for name, found in scores.items():
        cells = " | ".join(f"{value:.1f}" for value in np.mean(found, axis=0))
        print(f"| mean | {name} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="cifar10n, cifar100, domains, or the path of a config")
    parser.add_argument("--min-posterior", type=float, nargs="+", default=[0.9])
    parser.add_argument("--hidden", type=float, default=1 / 3)
    parser.add_argument("--objective", choices=("failures_first", "both", "fixed"))
    parser.add_argument("--labels-only", action="store_true", help="train nothing")
    args = parser.parse_args()
    try:
        config = load_config(benchmark_config(args.benchmark))
        if args.objective:
            objective: Objective = args.objective
            selection = config.selection.model_copy(update={"objective": objective})
            config = config.model_copy(update={"selection": selection})
        file = given_labels(config, args.hidden, Path(config.store) / "given")
        cases = arms(config, file, args.min_posterior)
        measure(cases, labels_only=args.labels_only)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
