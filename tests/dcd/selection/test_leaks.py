import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import LeakError
from dcd.selection.leaks import check_leaks, guard, near_copies
from tests.dcd.index.vector_pools import failures_table


def table(vectors: list[list[float]], prefix: str) -> pa.Table:
    return failures_table(["a"] * len(vectors), np.array(vectors), prefix)


TABLES = {"train": table([[0.0, 2.0]], "t"), "test": table([[3.0, 0.0]], "x")}


def test_near_copies_are_found_whatever_their_length():
    rows = table([[1.0, 0.02], [1.0, 1.0], [0.01, 5.0]], "p")
    assert near_copies(rows, guard(TABLES, 0.05)) == ["test", None, "train"]
    assert near_copies(rows, guard(TABLES, 0.0)) == [None] * 3
    assert near_copies(rows, guard(TABLES, 0.9)) == ["test", "train", "train"]


def test_no_rows_and_empty_splits_are_fine():
    assert near_copies(table([[1.0, 0.0]], "p").slice(0, 0), guard(TABLES, 0.5)) == []
    empty = guard({"test": TABLES["test"].slice(0, 0)}, 1)
    assert near_copies(table([[1.0, 0.0]], "p"), empty) == [None]


def test_the_short_cut_by_projection_loses_no_copy():
    """300 numbers, so that most are left out at first: as all pairs in full."""
    rng = np.random.default_rng(0)
    originals = rng.normal(size=(200, 300))
    copies = originals[:50] + rng.normal(size=(50, 300)) * rng.uniform(0, 0.3, (50, 1))
    others = rng.normal(size=(100, 300))
    rows = np.concatenate([copies, others]).astype(np.float32)
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, originals)]
    distance = np.linalg.norm(units[0][:, None] - units[1][None], axis=2).min(axis=1)
    guarded = guard({"test": table(originals.tolist(), "x")}, 0.15)
    found = near_copies(table(rows.tolist(), "p"), guarded)
    expected = ["test" if d < 0.15 else None for d in distance]
    assert 5 < expected.count("test") < 45
    assert found == expected


def check(picks, guarded):
    check_leaks(picks, near_copies(picks, guarded), guarded.content)


def test_a_leak_blocks_and_is_listed():
    with pytest.raises(LeakError, match=r"1 of 2 .*p000 is nearly an image of test"):
        check(table([[1.0, 0.0], [1.0, 1.0]], "p"), guard(TABLES, 0.05))


def test_equal_content_blocks_at_any_distance():
    with pytest.raises(LeakError, match="t000 is in train"):
        check(table([[1.0, 1.0]], "t"), guard(TABLES, 0.0))


def test_ordinary_picks_pass():
    check(table([[1.0, 1.0]], "p"), guard(TABLES, 0.05))
