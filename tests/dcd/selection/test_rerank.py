import numpy as np
import pyarrow as pa
import pytest

from dcd.config import LpipsConfig
from dcd.errors import ConfigError, EncoderError
from dcd.selection.rerank import FARTHER, by_lpips, open_lpips
from dcd.tables import schemas


def neighbors(*rows: tuple[str, str, int, str | None]) -> pa.Table:
    """Of label a, at distance 10 times the rank."""
    return pa.Table.from_pylist(
        [
            {
                "error_image_id": failure,
                "image_id": image,
                "label": "a",
                "distance": 10.0 * rank,
                "rank": rank,
                "label_agreement": None,
                "kept": reason is None,
                "reason": reason,
            }
            for failure, image, rank, reason in rows
        ],
        schema=schemas.NEIGHBORS,
    )


def test_ranks_are_by_lpips_and_the_rest_stays_the_encoders():
    given = neighbors(
        ("f", "far", 1, None),
        ("f", "leak", 2, "in test"),
        ("f", "near", 3, None),
        ("f", "doubtful", 4, "label not trusted"),
        ("f", "middle", 5, None),
        ("g", "only", 1, None),
    )
    found = by_lpips(given, np.array([0.9, 0.1, 0.5, 0.7], np.float32), 2)
    assert found.schema == schemas.RERANKED_NEIGHBORS
    rows = [
        [row[n] for n in ("image_id", "rank", "distance", "reason")] for row in found.to_pylist()
    ]
    assert rows == [
        ["near", 1, 30, None],
        ["middle", 2, 50, None],
        ["far", 3, 10, FARTHER],
        ["leak", 4, 20, "in test"],
        ["doubtful", 5, 40, "label not trusted"],
        ["only", 1, 10, None],
    ]
    assert found["kept"].to_pylist() == [True, True, False, False, False, True]
    distances = [None if d is None else round(d, 3) for d in found["lpips"].to_pylist()]
    assert distances == [0.1, 0.5, 0.9, None, None, 0.7]


def test_equal_ones_stay_in_the_encoders_order():
    given = neighbors(("f", "b", 1, None), ("f", "a", 2, None))
    found = by_lpips(given, np.zeros(2, np.float32), 1)
    assert found["image_id"].to_pylist() == ["b", "a"]
    assert found["kept"].to_pylist() == [True, False]


def test_without_neighbours_there_is_nothing_to_rank():
    found = by_lpips(schemas.NEIGHBORS.empty_table(), np.zeros(0, np.float32), 2)
    assert found.num_rows == 0


def test_too_many_comparisons_are_refused_before_the_weights_are_read():
    config = LpipsConfig(backbone="absent.pth", candidates=30, max_comparisons=100)
    with pytest.raises(ConfigError, match=r"4 failures with 30 .* 120 comparisons.*\(100\); give"):
        open_lpips(config, 4)
    with pytest.raises(EncoderError, match=r"absent\.pth: weights cannot be read"):
        open_lpips(config, 3)
