"""What the options against label noise change in head mode, on real images with real label noise.

python -m benchmarks.label_noise [--data cifar10n cifar100] [--options gce bootstrap ...]

For every option a run of the product over seeds 0 to 2 with the methods none, whole_pool,
filtered_pool and selected; images are embedded once, and models that are there already are not
trained again. A fifth of train is held out as val: options are to be chosen by debug_val and val
alone.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.real import benchmark_config
from dcd.config import RunConfig, load_config
from dcd.errors import DCDError
from dcd.splits.label_table import read_truth
from dcd.store import Store, keys
from flows.cli.console import configure_prefect, leaving

_HOME = Path(__file__).parent
_DATA = ("cifar10n", "cifar100")
_METHODS = ("none", "whole_pool", "filtered_pool", "selected")
_COLUMNS = ("debug_val", "val", "debug_heldout", "test")
_VAL = "role = 'train' AND hash(image_id) % 5 = 0"

_PLAIN: Mapping[str, str | float] = {"loss": "cross_entropy"}
OPTIONS: Mapping[str, Mapping[str, str | float]] = {
    "forward": {},
    "cross_entropy": _PLAIN,
    "gce": {"loss": "gce"},
    "drop_high_loss 0.1": {**_PLAIN, "drop_high_loss": 0.1},
    "agreement": {**_PLAIN, "soft_labels": "agreement"},
    "bootstrap": {**_PLAIN, "soft_labels": "bootstrap"},
    "gce, q 0.3": {"loss": "gce", "gce_q": 0.3},
    "drop_high_loss 0.3": {**_PLAIN, "drop_high_loss": 0.3},
    "agreement, share 0.2": {**_PLAIN, "soft_labels": "agreement", "soft_label_share": 0.2},
    "bootstrap, share 0.3": {**_PLAIN, "soft_labels": "bootstrap", "soft_label_share": 0.3},
}

# Accuracies by seed, by (method, column).
Scores = dict[tuple[str, str], list[float]]


def config_of(data: str, option: str) -> RunConfig:
    """The run of an option: `test` holds val too, so that every model is judged on both.

    Pool and test images are one source, which is embedded once; test images have no weak label and
    so are no part of the pool.
    """
    base = load_config(_HOME / f"{data}.yaml")
    images = str(Path(base.pool.images).parent / "*[0-9t].parquet")  # not truth.parquet
    labels = base.train.labels

    def role(where: str) -> dict[str, object]:
        return {"images": images, "labels": labels, "where": where}

    return RunConfig.model_validate(
        {
            "name": f"{data}-label-noise",
            "store": base.store,
            "seeds": base.seeds,
            "pool": {
                "name": f"{data}-with-test",
                "images": images,
                "label_column": "weak_label",
                "true_labels": base.pool.true_labels,
            },
            "train": role(f"role = 'train' AND NOT ({_VAL})"),
            "test": role(f"role = 'test' OR ({_VAL})"),
            **{s: role(f"role = '{s}'") for s in ("error_sample", "debug_val", "debug_heldout")},
            "encoder": base.encoder,
            "training": OPTIONS[option],
            "compare": {"baselines": ["none", "whole_pool", "filtered_pool"]},
            "gate": {"policy": "off"},
        }
    )


def measure(data: str, option: str) -> Scores:
    """Run an option and read what its models got right."""
    from flows.debug_model import debug_model

    config = config_of(data, option)
    info = debug_model(config)
    predictions = Store(config.store).read_table(keys.run(info.run_id, "predictions.parquet"))
    truth = read_truth(config.pool)
    assert truth is not None
    return scores(predictions, truth["image_id"], config.seeds)


def scores(predictions: pa.Table, pool_ids: pa.ChunkedArray, seeds: Sequence[int]) -> Scores:
    """predictions: schemas.PREDICTIONS. Rows of test that are in the pool's files are val."""
    from_pool = pc.is_in(predictions["image_id"], value_set=pool_ids.combine_chunks())
    is_val = pc.and_(pc.equal(predictions["split"], "test"), from_pool)
    column = pc.if_else(is_val, "val", predictions["split"])
    right = pc.equal(predictions["label"], predictions["predicted"]).cast(pa.float64())
    rows = predictions.select(["model", "seed"]).append_column("column", column)
    by = rows.append_column("right", right).group_by(["model", "seed", "column"])
    found = {
        (row["model"], row["column"], row["seed"]): row["right_mean"]
        for row in by.aggregate([("right", "mean")]).to_pylist()
    }
    return {
        (method, column): [found[method, column, seed] for seed in seeds]
        for method in _METHODS
        for column in _COLUMNS
    }


def line(data: str, option: str, method: str, found: Scores) -> str:
    """One row of the table: mean and standard deviation over seeds, in per cent."""
    cells = []
    for column in _COLUMNS:
        accuracy = 100 * np.array(found[method, column])
        cells.append(f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}")
    return f"| {data} | {option} | {method} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=_DATA, default=_DATA)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=tuple(OPTIONS))
    args = parser.parse_args()
    configure_prefect(verbose=False)
    try:
        for data in args.data:
            benchmark_config(data)
        print(f"| data | option | added to train | {' | '.join(_COLUMNS)} |")
        print("|---|---|---|" + "---|" * len(_COLUMNS), flush=True)
        for option in args.options:
            for data in args.data:
                found = measure(data, option)
                for method in _METHODS:
                    print(line(data, option, method, found), flush=True)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
