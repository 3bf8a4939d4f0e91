import numpy as np
import pyarrow as pa
import pytest

from dcd.selection.filters import (
    QUOTA,
    adaptive_k,
    beyond_mode_quota,
    distance_cutoff,
    k_center,
    near_copies_of_earlier,
    nearer_to_negatives,
    refuse,
)
from dcd.tables import schemas


def neighbors(rows: list[tuple[str, str, float]]) -> pa.Table:
    """(failure, image, distance); all kept, of label a."""
    return pa.Table.from_pylist(
        [
            {"error_image_id": e, "image_id": i, "label": "a", "distance": d, "rank": 1}
            | {"label_agreement": None, "kept": True, "reason": None}
            for e, i, d in rows
        ],
        schemas.NEIGHBORS,
    )


def test_a_refused_row_stays_with_its_reason():
    table = refuse(neighbors([("e", "x", 1), ("e", "y", 2)]), np.array([False, True]), QUOTA)
    assert table["kept"].to_pylist() == [True, False]
    assert table["reason"].to_pylist() == [None, QUOTA]
    again = refuse(table, np.array([False, True]), "another")
    assert again["reason"].to_pylist() == [None, QUOTA]


def test_of_near_copies_the_first_stays():
    points = np.array([[0.0], [0.5], [0.9], [3.0]])
    # 0.9 is near 0.5, which went; it is far from 0.
    assert near_copies_of_earlier(points, 0.6).tolist() == [False, True, False, False]


def test_a_large_mode_does_not_crowd_out_a_small_one():
    table = neighbors([("e1", "x", 1), ("e1", "y", 2), ("e2", "y", 0.5), ("f", "z", 9)])
    modes = {"e1": "big", "e2": "big", "f": "small"}
    assert beyond_mode_quota(table, modes, 1).tolist() == [True, False, False, False]
    assert not beyond_mode_quota(table, modes, 2).any()


def test_failures_without_mode_share_the_quota_of_their_label():
    table = neighbors([("e1", "x", 1), ("e2", "y", 2)])
    assert beyond_mode_quota(table, {"e1": None, "e2": None}, 1).tolist() == [False, True]


def test_the_cutoff_is_the_last_distance_that_is_precise_enough():
    distance = np.array([4.0, 1.0, 3.0, 2.0])
    same = np.array([False, True, False, True])
    assert distance_cutoff(distance, same, 1.0) == 2
    assert distance_cutoff(distance, same, 0.6) == 3
    assert distance_cutoff(distance, ~same, 0.9) == 0


def test_k_center_covers():
    points = np.array([[0.0], [0.1], [10.0], [5.0], [9.9]])
    assert k_center(points, 3).tolist() == [0, 2, 3]
    assert sorted(k_center(points, 9)) == [0, 1, 2, 3, 4]
    assert k_center(points[:0], 2).tolist() == []
    assert k_center(np.zeros((3, 1)), 2).tolist() == [0, 1]


@pytest.mark.parametrize(("trust", "expected"), [([1.0] * 5, 5), ([0.5] * 5, 2), ([0.0] * 5, 1)])
def test_doubtful_labels_give_fewer_picks(trust, expected):
    assert adaptive_k(np.array(trust), 1) == expected


def test_negatives_push_away():
    candidates, failures = np.array([[0.0], [4.0]]), np.array([[1.0]])
    assert nearer_to_negatives(candidates, failures, np.array([[5.0]])).tolist() == [False, True]
    assert not nearer_to_negatives(candidates, failures, np.empty((0, 1))).any()
