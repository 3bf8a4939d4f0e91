"""Choices by kept logits: no network, no training."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.full_choices import lines, redrawn
from dcd.cells.stages import points

SIZES = {"val": 200, "debug_val": 100, "debug_heldout": 300, "test": 500}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Logits of ends that gain more and more on failures, and of what lies between them."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    gain = {"none": 0.0, "whole_pool": 1.0, "targeted": 2.0}
    for split, n in SIZES.items():
        truth = rng.integers(5, size=n)
        noise = rng.normal(size=(n, 5))
        arrays[f"{split} truth"] = truth
        for shares in points():
            if "none" in shares and split in ("debug_heldout", "test") and len(shares) > 1:
                continue  # `--few` does not ask those
            level = sum(share * gain[end] for end, share in shares.items())
            at = ",".join(f"{end}={share:g}" for end, share in shares.items())
            arrays[f"{split} {at}"] = noise + level * np.eye(5)[truth]
    file = tmp_path / "seed0.npz"
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file


def test_the_line_and_the_choices_stand_in_one_table(kept: Path):
    rows = [line.split(" | ") for line in lines(kept, is_blind=False)]
    assert len(rows) == 2 + 11 + 1 + 2  # its head, the line, none, two objectives
    assert rows[2][0] == "| whole_pool"
    assert rows[12][0] == "| targeted"
    assert [row[0] for row in rows[-2:]] == [
        "| **failures_first**: targeted",
        "| **both**: targeted",
    ]


def test_blind_it_shows_what_decides_alone(kept: Path):
    assert "test" in next(lines(kept, is_blind=False))
    assert "test" not in next(lines(kept, is_blind=True))


def test_a_line_is_redrawn_for_every_size_of_val_that_test_can_give(kept: Path):
    rows = [line.split(" | ") for line in redrawn(kept, n_draws=2)][2:]
    assert [row[0] for row in rows] == ["| 100", "| 100", "| 200", "| 200"]
    assert all(float(row[3]) > 0 for row in rows)  # failures gain on this line
