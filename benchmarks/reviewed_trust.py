"""What verified images teach about the labels of the others: how well trust tells right from wrong.

python -m benchmarks.reviewed_trust cifar10n|cifar100|domains|PATH.yaml [--n 100 400]

For every seed n images of the pool get their true label as from a reviewer: drawn at random, or
those whose label is most doubtful. Neighbours' votes and the classifier of labels learn of them as
a selection with reviews has it. Told is the area under the curve by which trust orders the labels
of the images that nobody looked at, right above wrong, before and after, of the same images; and
the share of right labels among those looked at, which is what an estimate of the pool's noise would
take from them.
"""

import argparse
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from benchmarks.cases import Case
from benchmarks.real import benchmark_config
from dcd.config import load_config
from dcd.errors import DCDError
from dcd.index.read import pool_sample
from dcd.label_noise.agreement import corrected
from dcd.label_noise.pool_agreement import pool_reference
from dcd.label_noise.trust import clean_head, judge_labels
from dcd.splits.label_table import read_truth
from dcd.splits.split import blocked_content, split_table
from dcd.tables.rows import without
from flows.cli.console import leaving


def measure(case: Case, sizes: list[int]) -> None:
    """Print a row for every seed, size and way of choosing."""
    print("| seed | looked at | right among them, % | agreement, AUC | trust, AUC |")
    print("|---|---|---|---|---|", flush=True)
    truth = read_truth(case.config.pool)
    assert truth is not None
    reference = pool_reference(case.store, case.index)
    for seed in case.config.seeds:
        splits = case.splits(seed)
        train, failures = (split_table(case.store, splits[s]) for s in ("train", "error_sample"))
        rows = without(pool_sample(case.store, case.index), blocked_content(case.store, splits))
        at = pc.index_in(rows["image_id"], value_set=truth["image_id"].combine_chunks())
        true = truth["label"].take(at.combine_chunks())
        right = pc.equal(rows["weak_label"], true).to_numpy()
        nobody = judge_labels(reference, clean_head(train, failures))(rows)
        doubtful = np.argsort(nobody.probability, kind="stable")
        drawn = np.random.default_rng(seed).permutation(rows.num_rows)
        for way, order in {"random": drawn, "doubtful": doubtful}.items():
            for n in sizes:
                seen = pa.array(np.sort(order[:n]))
                said = rows.select(["image_id", "weak_label", "shard", "content_hash"]).take(seen)
                said = said.rename_columns(["image_id", "label", "shard", "content_hash"])
                said = said.append_column("true_label", true.take(seen))
                known = pa.table(
                    {"label": true.take(seen), "embedding": rows["embedding"].take(seen)}
                )
                head = clean_head(train, failures, known)
                trust = judge_labels(corrected(reference, said), head)(rows)
                rest = order[n:]
                pairs = (
                    (nobody.agreement, trust.agreement),
                    (nobody.probability, trust.probability),
                )
                aucs = [
                    " → ".join(f"{roc_auc_score(right[rest], of[rest]):.3f}" for of in pair)
                    for pair in pairs
                ]
                share = f"{100 * right[order[:n]].mean():.0f}"
                print(f"| {seed} | {n} {way} | {share} | {' | '.join(aucs)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="cifar10n, cifar100, domains, or the path of a config")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 400])
    args = parser.parse_args()
    try:
        measure(Case.embedded(load_config(benchmark_config(args.benchmark))), args.n)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
