import pyarrow as pa
import pytest

from dcd.config import GoalConfig
from dcd.rounds.budget import images_of_round, largest_remainder, take

_SCHEMA = pa.schema(
    [
        ("error_image_id", pa.string()),
        ("label", pa.string()),
        ("rank", pa.int32()),
        ("distance", pa.float32()),
        ("content_hash", pa.binary(1)),
    ]
)


def candidates(*rows: tuple[str, str, int, float, bytes]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * len(_SCHEMA)
    return pa.table([list(column) for column in columns], schema=_SCHEMA)


def goal(**settings: object) -> GoalConfig:
    return GoalConfig.model_validate({"target": 0.9, "budget": 100, **settings})


def test_shares_are_those_of_hamilton_on_his_textbook_example():
    # Balinski & Young's example of the method: 26 seats, populations that are no round shares.
    sizes = {"A": 9061, "B": 7179, "C": 5259, "D": 3319, "E": 1182}
    assert largest_remainder(sizes, 26) == {"A": 9, "B": 7, "C": 5, "D": 4, "E": 1}


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_shares_sum_to_what_is_shared_and_are_within_one_of_the_quota(n):
    sizes = {"a": 5, "b": 5, "c": 1, "d": 0}
    shares = largest_remainder(sizes, n)
    assert sum(shares.values()) == n
    assert all(abs(shares[name] - n * size / 11) < 1 for name, size in sizes.items())
    assert shares["d"] == 0


def test_nothing_is_shared_among_classes_that_ask_for_nothing():
    assert largest_remainder({"a": 0, "b": 0}, 5) == {"a": 0, "b": 0}


def test_a_budget_is_spread_over_the_rounds_and_never_exceeded():
    spread, taken = goal(rounds=3, budget=10), 0
    rounds = []
    for number in (1, 2, 3, 4):
        rounds.append(images_of_round(spread, taken, number))
        taken += rounds[-1]
    assert rounds == [4, 3, 3, 0]
    # What one round could not use goes to the later ones.
    assert images_of_round(spread, 0, 3) == 10
    assert images_of_round(goal(images_per_round=30), 90, 4) == 10


def test_failures_take_turns_and_an_image_counts_once():
    found = candidates(
        ("f1", "cat", 1, 0.1, b"a"),
        ("f1", "cat", 2, 0.2, b"b"),
        ("f1", "cat", 5, 0.3, b"c"),
        ("f2", "dog", 3, 0.9, b"a"),
        ("f2", "dog", 4, 1.0, b"d"),
    )
    # First turn: a (asked for twice); second: b, the nearer, then d; third: c.
    assert take(found, 2, "nearest").to_pylist() == [b"a", b"b"]
    assert take(found, 3, "nearest").to_pylist() == [b"a", b"b", b"d"]
    assert take(found, 99, "nearest").to_pylist() == [b"a", b"b", b"d", b"c"]
    assert take(found, 0, "nearest").to_pylist() == []
    assert take(candidates(), 5, "nearest").to_pylist() == []


def test_a_class_gets_its_share_of_the_failures_and_no_more():
    found = candidates(
        *(("f1", "cat", i, 0.01 * i, bytes([i])) for i in range(1, 6)),
        *(("f2", "cat", i, 0.01 * i, bytes([10 + i])) for i in range(1, 6)),
        ("f3", "dog", 1, 0.9, bytes([50])),
    )
    taken = [one[0] for one in take(found, 6, "by_class").to_pylist()]
    assert taken.count(50) == 1  # two thirds for cats; dogs have one image for their two places
    assert len(taken) == 5
