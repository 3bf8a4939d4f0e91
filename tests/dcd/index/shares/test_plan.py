"""Which worker writes which files: counts alone, no store."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcd.config import IndexConfig, RunnerConfig
from dcd.index.shares.plan import (
    Chunk,
    Place,
    PlannedPart,
    Workers,
    batches_of,
    planned_parts,
    shares_of,
    workers_of,
)
from dcd.index.sort import Sizes

SIZES = Sizes(group_rows=10, own_group_rows=4, part_rows=25)


def chunks_of(counts: dict[str, int]) -> list[Chunk]:
    return [
        Chunk(Place(label, -1, f"{start:04d}"), min(SIZES.group_rows, n - start))
        for label, n in sorted(counts.items())
        for start in range(0, n, SIZES.group_rows)
    ]


def test_files_begin_where_the_rows_before_fill_one():
    parts = planned_parts(iter(chunks_of({"a": 3, "b": 3, "c": 32, "d": 2, "e": 1})), SIZES)
    assert parts == [
        PlannedPart(Place("a", -1, "0000"), 16),  # a and b share a row group
        PlannedPart(
            Place("c", -1, "0010"), 25
        ),  # the end of c, too small for itself, shares one with d
    ]
    assert planned_parts(iter(()), SIZES) == []


def test_a_row_group_larger_than_a_file_has_one_of_its_own():
    sizes = Sizes(group_rows=10, own_group_rows=4, part_rows=5)
    parts = planned_parts(iter(chunks_of({"a": 12})), sizes)
    assert [part.n_rows for part in parts] == [10, 2]


def parts_of(n_rows: list[int]) -> list[PlannedPart]:
    return [PlannedPart(Place("label", -1, f"{number:04d}"), n) for number, n in enumerate(n_rows)]


def test_shares_are_neighbouring_files_and_the_largest_is_begun_first():
    shares = shares_of(parts_of([5, 5, 5, 9]), 2)
    assert [(share.first_part, share.part_rows) for share in shares] == [(2, (5, 9)), (0, (5, 5))]
    assert shares[1].beyond == shares[0].first == Place("label", -1, "0002")
    assert shares[0].beyond is None
    assert shares[0].id != shares[1].id
    assert shares_of([], 3) == ()


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 40))
def test_every_file_is_in_one_share_and_none_is_empty(n_rows: list[int], n: int):
    shares = sorted(shares_of(parts_of(n_rows), n), key=lambda share: share.first_part)
    assert len(shares) == min(n, len(n_rows))
    assert [rows for share in shares for rows in share.part_rows] == n_rows
    assert [share.first_part for share in shares] == [
        sum(len(share.part_rows) for share in shares[:number]) for number in range(len(shares))
    ]
    assert max(share.n_rows for share in shares) <= sum(n_rows) / len(shares) + 2 * max(n_rows)
    assert shares == sorted(shares_of(parts_of(n_rows), n), key=lambda one: one.first_part)


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 40))
def test_every_shard_is_in_one_batch_and_none_is_empty(n_rows: list[int], n: int):
    batches = batches_of(n_rows, n)
    assert len(batches) == min(n, len(n_rows))
    assert [place for batch in batches for place in batch] == list(range(len(n_rows)))
    assert all(batches)


PLACES = st.builds(
    Place,
    st.sampled_from(["", "a", "aa", "b", "ä", "z", "\U0001f600"]),
    st.integers(-1, 2),
    st.sampled_from(["", "1", "10", "2", "é"]),
)


def table_of(places: list[Place]) -> pa.Table:
    return pa.table(
        {
            "weak_label": pa.array([place.label for place in places], pa.string()),
            "list": pa.array([place.number for place in places], pa.int32()),
            "image_id": pa.array([place.image_id for place in places], pa.string()),
        }
    )


@settings(deadline=None)
@given(
    st.lists(PLACES, max_size=20),
    st.lists(PLACES, min_size=1, max_size=6, unique=True),
    st.integers(1, 5),
)
def test_every_row_from_the_first_on_belongs_to_one_share(
    rows: list[Place], starts: list[Place], group_rows: int
):
    rows = sorted(rows)
    groups = [rows[start : start + group_rows] for start in range(0, len(rows), group_rows)]
    firsts = table_of([group[0] for group in groups])
    parts = [PlannedPart(place, 1) for place in sorted(starts)]
    found = []
    for share in shares_of(parts, len(parts)):
        read = share.groups_of(firsts)
        here = share.rows_of(table_of([place for number in read for place in groups[number]]))
        assert here.equals(share.rows_of(table_of(rows)))
        found += [
            Place(row["weak_label"], row["list"], row["image_id"]) for row in here.to_pylist()
        ]
    assert sorted(found) == [row for row in rows if row >= min(starts)]


def test_row_groups_of_other_shares_are_not_read():
    firsts = table_of([Place(label, -1, "1") for label in "abcdef"])
    parts = [PlannedPart(Place(label, -1, "1"), 1) for label in "ace"]
    in_order = sorted(shares_of(parts, 3), key=lambda share: share.first_part)
    # The group before may end with rows of the same place, of another shard.
    assert [share.groups_of(firsts) for share in in_order] == [[0, 1], [1, 2, 3], [3, 4, 5]]
    assert in_order[0].groups_of(firsts.slice(0, 0)) == []


GIB = 2**30


@pytest.mark.parametrize(
    ("runner", "workers"),
    [
        (RunnerConfig(kind="thread", max_workers=8), Workers(1, GIB)),
        (RunnerConfig(kind="process", max_workers=1), Workers(1, GIB)),
        (RunnerConfig(kind="ray", max_workers=9), Workers(2, GIB // 2)),
        (RunnerConfig(kind="dask", max_workers=9, address="tcp://head:8786"), Workers(9, GIB)),
    ],
)
def test_workers_of_one_machine_share_its_memory(runner: RunnerConfig, workers: Workers):
    assert workers_of(runner, IndexConfig(max_memory_bytes=GIB)) == workers
