"""A comparison on real images with real label noise, from an empty store to the table.

make cifar10n, make cifar100, make domains (JSON=FILE writes the metrics); or
python -m benchmarks.real cifar10n|cifar100|domains|PATH.yaml [--objectives] [--json FILE]
With --objectives the same selection stands in the table once more for each other objective.
"""

import argparse
import glob
import json
import sys
import time
from pathlib import Path

from benchmarks.table import headline, table
from dcd.config import BASELINES, Objective, RunConfig, load_config
from dcd.errors import ConfigError, DCDError
from flows.cli.console import configure_prefect, leaving

_HOME = Path(__file__).parent
_NO_DATA = 2


OBJECTIVES: tuple[Objective, ...] = ("fixed", "failures_first", "both")


def with_objectives(config: RunConfig) -> RunConfig:
    """The config and, beside `selected`, its selection by each other objective, named after it."""
    chosen = {
        str(name): config.selection.model_copy(update={"objective": name})
        for name in OBJECTIVES
        if name != config.selection.objective
    }
    compare = config.compare.model_copy(
        update={"selections": {**chosen, **config.compare.selections}}
    )
    return config.model_copy(update={"compare": compare})


def run(config: RunConfig, json_file: Path | None) -> None:
    """Run the config, write its metrics, print the table and the headline."""
    configure_prefect(verbose=False)
    from dcd.runs.run import read_metrics
    from flows.debug_model import debug_model

    started = time.perf_counter()
    info = debug_model(config)
    minutes = (time.perf_counter() - started) / 60
    rows = read_metrics(config.store, info.run_id)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))  # pyright: ignore[reportArgumentType]
    print()
    shown = [name for name in ("selected", *OBJECTIVES) if any(r["method"] == name for r in rows)]
    for name in shown:
        print(headline(rows, str(name), BASELINES))  # pyright: ignore[reportArgumentType]
    print(f"{minutes:.1f} minutes. Report: {info.report}")


def missing_data(config_path: Path) -> str | None:
    """What to do if the images of the config are not there; None if they are."""
    images = load_config(config_path).pool.images
    if glob.glob(images):
        return None
    return (
        f"{config_path}: no file matches {images}; the benchmark data lies beside the checkout, "
        "in ../shared/data, and is not part of the project: run from the root of a checkout "
        "that has it"
    )


def benchmark_config(benchmark: str) -> Path:
    """The config of a benchmark, by its name or path; exits with code 2 where its data is not."""
    named = _HOME / f"{benchmark}.yaml"
    path = named if named.exists() else Path(benchmark)
    if complaint := missing_data(path):
        print(complaint, file=sys.stderr)
        sys.exit(_NO_DATA)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="cifar10n, cifar100, domains, or the path of a config")
    parser.add_argument("--objectives", action="store_true", help="compare the objectives too")
    parser.add_argument("--json", type=Path, help="write the metrics there, as dcd run --json does")
    args = parser.parse_args()
    try:
        config = load_config(benchmark_config(args.benchmark))
        run(with_objectives(config) if args.objectives else config, args.json)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        sys.exit(_NO_DATA)
    except DCDError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leaving(main)
