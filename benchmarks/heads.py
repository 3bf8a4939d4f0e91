"""What one fit of a head costs: 18,000 kept vectors of CIFAR-10N, by label and by label and half.

    taskset -c 0 python -m benchmarks.heads [--store runs/benchmarks]

After `make cifar10n`, whose store has the embeddings. CPU seconds of one fit, which other work on
the machine changes less than the time that passes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcd.config import TrainingConfig
from dcd.tables.vectors import embedding_matrix
from dcd.training.data import TrainingSet
from dcd.training.head import fit_standardizer, train_head

N_ROWS, N_TIMES = 18_000, 3
TRUTH = Path("../shared/data/cifar10n/truth.parquet")


def label_sets(table: pa.Table, features: np.ndarray) -> dict[str, list[str]]:
    """The pool's own labels, the true ones, and the true ones in two halves each."""
    truth = pq.read_table(TRUTH)
    (column,) = set(truth.column_names) - {"image_id"}
    true = dict(zip(truth["image_id"].to_pylist(), truth[column].to_pylist(), strict=True))
    right = [str(true[image_id]) for image_id in table["image_id"].to_pylist()]
    along = features @ np.random.default_rng(0).standard_normal(features.shape[1]).astype("f")
    halves = np.where(along > np.median(along), "high", "low")
    return {
        "10 labels of the pool": table["weak_label"].to_pylist(),
        "10 true labels": right,
        "20 classes": [f"{a} {b}" for a, b in zip(right, halves, strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, default=Path("runs/benchmarks"))
    files = sorted((parser.parse_args().store / "embeddings/cifar10n").glob("*/*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files[:4]]).slice(0, N_ROWS)
    features = embedding_matrix(table)
    standardizer = fit_standardizer(features)
    for name, labels in label_sets(table, features).items():
        data = TrainingSet.of_true_labels(features, labels, tuple(sorted(set(labels))))
        took_s = []
        for _ in range(N_TIMES):
            began_s = time.process_time()
            train_head(data, standardizer, TrainingConfig().l2)
            took_s.append(time.process_time() - began_s)
        print(f"{name}: {min(took_s):.2f} s")


if __name__ == "__main__":
    main()
