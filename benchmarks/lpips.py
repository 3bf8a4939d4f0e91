"""What LPIPS re-ranking brings against the encoder's own order, and what it costs.

    python -m benchmarks.lpips --weights weights [--data cifar10n cifar100 domains] [--seeds 0 1 2]

weights: the folder that `dcd lpips convert` wrote. For every failure the encoder finds the same
`candidates` in its label; each strategy keeps the k nearest of them by its own measure, and a head
is trained on train and those alone, as in the paper. Seconds are of the selection, once the
encoder's candidates are known. lpips_alike is LPIPS with all channels weighing the same.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.real import benchmark_config
from dcd.cells.cell import run_cell
from dcd.cells.methods import Method
from dcd.config import LpipsConfig, SelectionConfig, load_config
from dcd.store import keys

_DATA = ("cifar10n", "cifar100", "domains")
_LPIPS_NUMBERS = 484_992  # an image, at 224 px: `dcd cost`
_SPLITS = ("debug_val", "debug_heldout", "test")


def strategies(weights: Path, k: int, candidates: int) -> dict[str, SelectionConfig]:
    """The paper's selection by each measure."""
    paper = SelectionConfig(
        k=k,
        min_agreement=0,
        general_images=0,
        pick_weight=1,
        error_sample_weight=0,
        max_targeted_share=1,
        leak_distance=0,
    )

    def ordered(channel_weights: str | None) -> SelectionConfig:
        lpips = LpipsConfig(
            backbone=str(weights / "alexnet.safetensors"),
            channel_weights=channel_weights,
            candidates=candidates,
        )
        return paper.model_copy(update={"lpips": lpips})

    return {
        "encoder": paper,
        "lpips": ordered(str(weights / "alexnet-lpips.safetensors")),
        "lpips_alike": ordered(None),
    }


def measure(case: Case, name: str, selection: SelectionConfig, seed: int) -> dict[str, Any]:
    """Select, train and judge one strategy at one seed."""
    if selection.lpips is not None:
        case.select(selection.model_copy(update={"lpips": None, "k": selection.searched}), seed)
    started = time.perf_counter()
    info = case.select(selection, seed)
    seconds = time.perf_counter() - started
    method = Method(name, "selection", selection)
    cell = run_cell(case.store, case.plan(method, seed))
    picks = case.store.read_table(keys.selection_picks(info.id), ["image_id", "label"])
    return {
        "strategy": name,
        "seed": seed,
        **dict(zip(_SPLITS, case.accuracies(cell.id, _SPLITS), strict=True)),
        "right_labels": 100 * case.right_labels(picks),
        "n_picks": info.n_picks,
        "seconds": None if info.reused else seconds,
    }


def table(data: str, rows: Sequence[dict[str, Any]], dim: int) -> Iterator[str]:
    """Means and standard deviations over seeds."""
    for name in dict.fromkeys(row["strategy"] for row in rows):
        of_name = [row for row in rows if row["strategy"] == name]
        cells = [
            f"{np.mean(values):.1f} ± {np.std(values, ddof=min(1, len(values) - 1)):.1f}"
            for values in ([row[c] for row in of_name] for c in (*_SPLITS, "right_labels"))
        ]
        took = [row["seconds"] for row in of_name if row["seconds"] is not None]
        seconds = f"{np.mean(took):.1f}" if took else "–"
        n_bytes = 2 * dim if name == "encoder" else 4 * _LPIPS_NUMBERS
        n_picks = np.mean([row["n_picks"] for row in of_name])
        cost = f"{n_picks:,.0f} | {seconds} | {n_bytes:,}"
        yield f"| {data} | {name} | {' | '.join(cells)} | {cost} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=_DATA, default=_DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--orders", nargs="+", help="Of encoder, lpips, lpips_alike; default: all.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = [*_SPLITS, "right labels", "picks", "s", "bytes an image"]
    print(f"| data | order | {' | '.join(columns)} |")
    print(f"|---|---|{'---|' * len(columns)}", flush=True)
    every = []
    for data in args.data:
        case = Case.embedded(load_config(benchmark_config(data)))
        rows = [
            measure(case, name, selection, seed)
            for seed in args.seeds
            for name, selection in strategies(args.weights, args.k, args.candidates).items()
            if args.orders is None or name in args.orders
        ]
        print(*table(data, rows, case.index.dim), sep="\n", flush=True)
        every += [{"data": data, **row} for row in rows]
        if args.json:
            args.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
