"""A run's metrics as the Markdown table of the README.

python -m benchmarks.table METRICS.json
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

Row = dict[str, float | int | str | None]


def table(rows: list[Row]) -> str:
    """Mean ± standard deviation over seeds, in per cent, for debug_heldout and test."""
    by_method: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["mode"] is None:
            by_method[str(row["method"])][str(row["split"])].append(row)
    lines = [
        "| added to train | debug_heldout % | test % | right labels | images added |",
        "|---|---|---|---|---|",
    ]
    for method, splits in by_method.items():
        test = splits["test"]
        precision = [r["label_precision"] for r in test if r["label_precision"] is not None]
        right = f"{100 * np.mean(np.array(precision, float)):.0f} %" if precision else "–"
        picks = f"{np.array([r['n_picks'] for r in test], float).mean():,.0f}"
        heldout = _spread(splits["debug_heldout"])
        lines.append(f"| {method} | {heldout} | {_spread(test)} | {right} | {picks} |")
    return "\n".join(lines)


def _spread(rows: list[Row]) -> str:
    accuracy = np.array([row["accuracy"] for row in rows], float)
    std = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
    return f"{100 * accuracy.mean():.1f} ± {100 * std:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, help="file written by dcd run --json")
    print(table(json.loads(parser.parse_args().metrics.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
