import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.real import missing_data
from benchmarks.table import headline, table
from tests.case import write_case


def rows(method: str, heldout: float, test: float) -> list[dict[str, float | int | str | None]]:
    """Two seeds, 100 images a split, the second seed two points better; and one mode."""
    return [
        {
            "method": method,
            "seed": seed,
            "split": split,
            "mode": mode,
            "accuracy": accuracy + 0.02 * seed,
            "n": 100,
            "n_picks": 12,
            "label_precision": None if method == "none" else 0.5,
        }
        for seed in (0, 1)
        for split, accuracy in (("debug_heldout", heldout), ("test", test))
        for mode in (None, "m0")
    ]


ROWS = [*rows("none", 0.5, 0.7), *rows("random", 0.6, 0.6), *rows("selected", 0.8, 0.7)]


def test_the_table_has_means_spreads_and_intervals():
    line = table(ROWS).splitlines()[-1]
    assert line.startswith("| selected | 81.0 ± 1.4 (")
    assert line.endswith("| 50 % | 12 |")
    low, high = line.split("(")[1].split(")")[0].split("–")
    assert float(low) < 81 < float(high)


def test_a_baseline_that_loses_test_accuracy_does_not_count():
    found = headline(ROWS, "selected", ("none", "random", "whole_pool"))
    assert found.startswith("selected against none,")
    assert "+30.0 points on debug_heldout; its own test is +0.0 points" in found


def test_without_the_data_the_benchmark_says_so_and_exits_with_2(tmp_path: Path):
    config = write_case(tmp_path)
    assert missing_data(config) is None
    for file in tmp_path.glob("pool-*.parquet"):
        file.unlink()
    asked = subprocess.run(
        [sys.executable, "-m", "benchmarks.real", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert asked.returncode == 2
    assert "no file matches" in asked.stderr


@pytest.mark.slow
def test_a_benchmark_prints_its_table_and_writes_its_metrics(tmp_path: Path):
    config = write_case(tmp_path, seeds=(0,))
    asked = subprocess.run(
        [sys.executable, "-m", "benchmarks.real", str(config), "--json", str(tmp_path / "m.json")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "| selected |" in asked.stdout
    assert '"method": "filtered_pool"' in (tmp_path / "m.json").read_text()
