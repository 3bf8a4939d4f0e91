import pyarrow as pa

from dcd.evaluation.metrics import group_numbers
from dcd.runs.grouped import with_groups


def test_rows_keep_their_order_and_get_the_group_of_their_seed_and_split():
    predictions = pa.table(
        {
            "seed": pa.array([1, 0, 0, 0], pa.int64()),
            "split": ["test", "test", "debug_val", "test"],
            "image_id": ["a", "b", "a", "a"],
        }
    )
    groups = pa.table(
        {
            "seed": pa.array([0, 0], pa.int64()),
            "split": ["test", "test"],
            "image_id": ["a", "b"],
            "group": ["burst 1", "burst 1"],
        }
    )
    found = with_groups(predictions, groups)
    assert found["group"].to_pylist() == [None, "burst 1", None, "burst 1"]
    assert found.drop_columns("group").equals(predictions)


def test_images_without_group_have_numbers_of_their_own():
    table = pa.table({"group": pa.array(["x", None, "x", None, "y"])})
    numbers = group_numbers(table)
    assert numbers is not None
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 4
    assert group_numbers(pa.table({"group": pa.nulls(3, pa.string())})) is None
    assert group_numbers(pa.table({"image_id": ["a"]})) is None
