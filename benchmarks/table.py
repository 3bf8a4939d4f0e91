"""A run's metrics as a Markdown table, with 95 % intervals over seeds and images.

python -m benchmarks.table METRICS.json
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dcd.evaluation.stats import Interval, over_seeds

Row = Mapping[str, float | int | str | None]
_MAX_LOSS = 0.005  # of test accuracy against `none`: what keeping test means


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over seeds and the interval, in per cent."""
    lines = [
        "| added to train | debug_heldout % | test % | right labels | images added |",
        "|---|---|---|---|---|",
    ]
    for method, splits in _by_method(rows).items():
        test = splits["test"]
        precision = [r["label_precision"] for r in test if r["label_precision"] is not None]
        right = f"{100 * np.mean(np.array(precision, float)):.0f} %" if precision else "–"
        picks = f"{np.array([r['n_picks'] for r in test], float).mean():,.0f}"
        heldout = _spread(splits["debug_heldout"])
        lines.append(f"| {method} | {heldout} | {_spread(test)} | {right} | {picks} |")
    return "\n".join(lines)


def headline(rows: Sequence[Row], ours: str, baselines: Sequence[str]) -> str:
    """`ours` against the best of `baselines` that keeps test accuracy, in a sentence."""
    found = _by_method(rows)
    heldout = {m: _mean(splits["debug_heldout"]).value for m, splits in found.items()}
    test = {m: _mean(splits["test"]).value for m, splits in found.items()}
    keeping = [m for m in baselines if m in found and test[m] >= test["none"] - _MAX_LOSS]
    best = max(keeping, key=lambda m: heldout[m])
    return (
        f"{ours} against {best}, the best baseline that keeps test within "
        f"{100 * _MAX_LOSS:.1f} points of none: "
        f"{100 * (heldout[ours] - heldout[best]):+.1f} points on debug_heldout; "
        f"its own test is {100 * (test[ours] - test['none']):+.1f} points against none."
    )


def _by_method(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows over all modes by method and split, methods in their order."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["mode"] is None:
            found[str(row["method"])][str(row["split"])].append(row)
    return found


def _spread(rows: Sequence[Row]) -> str:
    accuracy = np.array([row["accuracy"] for row in rows], float)
    std = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
    mean = _mean(rows)
    return f"{100 * mean.value:.1f} ± {100 * std:.1f} ({100 * mean.low:.1f}–{100 * mean.high:.1f})"


def _mean(rows: Sequence[Row]) -> Interval:
    """Mean over seeds. An accuracy and its n tell how many images were right."""
    outcomes = []
    for row in rows:
        n = int(np.array(row["n"]))
        n_right = round(float(np.array(row["accuracy"])) * n)
        outcomes.append(np.arange(n) < n_right)
    return over_seeds(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, help="file written by dcd run --json")
    print(table(json.loads(parser.parse_args().metrics.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
