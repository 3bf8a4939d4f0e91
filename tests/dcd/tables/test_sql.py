import pyarrow as pa
import pytest

from dcd.errors import ConfigError
from dcd.tables.sql import filter_rows


@pytest.fixture
def labels() -> pa.Table:
    return pa.table(
        {
            "image_id": ["b", "a", "d", "c"],
            "role": ["train", "test", "train", None],
            "mode": pa.array([0, 1, 2, 3], pa.int32()),
        }
    )


def test_keeps_matching_rows_in_their_order_with_their_types(labels):
    kept = filter_rows(labels, "role = 'train' AND mode < 9", "train")
    assert kept.column("image_id").to_pylist() == ["b", "d"]
    assert kept.schema == labels.schema


def test_order_survives_many_rows():
    many = pa.table({"image_id": [str(i) for i in range(300_000)], "n": range(300_000)})
    assert filter_rows(many, "n % 3 = 0", "train").column("n").to_pylist() == list(
        range(0, 300_000, 3)
    )


def test_no_predicate_and_no_match(labels):
    assert filter_rows(labels, None, "train") is labels
    assert filter_rows(labels, "role = 'nobody'", "train").num_rows == 0
    assert filter_rows(labels, "role IS NULL", "train").column("image_id").to_pylist() == ["c"]


@pytest.mark.parametrize(
    "where",
    [
        "rol = 'train'",
        "role =",
        "",
        "role",
        "1); DROP TABLE x; --",
        "TRUE; SELECT 1",
        "EXISTS (SELECT * FROM read_text('/etc/hostname'))",
        "EXISTS (FROM 'labels.parquet')",
        "image_id IN (SELECT image_id FROM labels)",
    ],
)
def test_bad_or_reaching_predicates_are_refused_with_the_columns(labels, where):
    with pytest.raises(ConfigError) as caught:
        filter_rows(labels, where, "error_sample")
    (problem,) = caught.value.problems
    assert problem.startswith(f"error_sample: where {where!r}")
    assert "['image_id', 'role', 'mode']" in problem
    assert "\n" not in problem
