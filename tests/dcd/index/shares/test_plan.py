"""Which worker writes which files: counts alone, no store."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcd.config import IndexConfig, RunnerConfig
from dcd.index.shares.plan import (
    Chunk,
    PlannedPart,
    Workers,
    planned_parts,
    shares_of,
    workers_of,
)
from dcd.index.sort import Sizes

SIZES = Sizes(group_rows=10, own_group_rows=4, part_rows=25)


def chunks_of(counts: dict[str, int]) -> list[Chunk]:
    return [
        Chunk(label, f"{start:04d}", min(SIZES.group_rows, n - start))
        for label, n in sorted(counts.items())
        for start in range(0, n, SIZES.group_rows)
    ]


def test_files_begin_where_the_rows_before_fill_one():
    parts = planned_parts(iter(chunks_of({"a": 3, "b": 3, "c": 32, "d": 2, "e": 1})), SIZES)
    assert parts == [
        PlannedPart("a", "0000", 16),  # a and b share a row group
        PlannedPart("c", "0010", 25),  # the end of c, too small for itself, shares one with d
    ]
    assert planned_parts(iter(()), SIZES) == []


def test_a_row_group_larger_than_a_file_has_one_of_its_own():
    sizes = Sizes(group_rows=10, own_group_rows=4, part_rows=5)
    parts = planned_parts(iter(chunks_of({"a": 12})), sizes)
    assert [part.n_rows for part in parts] == [10, 2]


def parts_of(n_rows: list[int]) -> list[PlannedPart]:
    return [PlannedPart("label", f"{number:04d}", n) for number, n in enumerate(n_rows)]


def test_shares_are_neighbouring_files_and_the_largest_is_begun_first():
    shares = shares_of(parts_of([5, 5, 5, 9]), "z", 2)
    assert [(share.first_part, share.part_rows) for share in shares] == [(2, (5, 9)), (0, (5, 5))]
    assert shares[1].beyond == shares[0].first == ("label", "0002")
    assert shares[0].beyond is None
    assert (shares[0].last_label, shares[1].last_label) == ("z", "label")
    assert shares[0].id != shares[1].id
    assert shares_of([], "z", 3) == ()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 40))
def test_every_file_is_in_one_share_and_none_is_empty(n_rows: list[int], n: int):
    shares = sorted(shares_of(parts_of(n_rows), "z", n), key=lambda share: share.first_part)
    assert len(shares) == min(n, len(n_rows))
    assert [rows for share in shares for rows in share.part_rows] == n_rows
    assert [share.first_part for share in shares] == [
        sum(len(share.part_rows) for share in shares[:number]) for number in range(len(shares))
    ]
    assert max(share.n_rows for share in shares) <= sum(n_rows) / len(shares) + 2 * max(n_rows)
    assert shares == sorted(shares_of(parts_of(n_rows), "z", n), key=lambda one: one.first_part)


LABELS = st.sampled_from(["", "a", "aa", "b", "ä", "z", "\U0001f600"])


@given(
    st.lists(st.tuples(LABELS, LABELS), max_size=20),
    st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=6, unique=True),
)
def test_every_row_from_the_first_on_belongs_to_one_share(rows, starts):
    parts = [PlannedPart(label, image_id, 1) for label, image_id in sorted(starts)]
    table = pa.table(
        [pa.array(column, pa.string()) for column in (list(zip(*rows, strict=True)) or ([], []))],
        names=["weak_label", "image_id"],
    )
    found = [
        tuple(row.values())
        for share in shares_of(parts, "\U0001f600", len(parts))
        for row in share.rows_of(table).to_pylist()
    ]
    assert sorted(found) == sorted(row for row in rows if row >= min(starts))


def test_a_share_keeps_the_labels_that_it_may_hold():
    _, second = sorted(
        shares_of([PlannedPart("b", "1", 5), PlannedPart("d", "1", 5)], "e", 2),
        key=lambda share: share.first_part,
    )
    table = pa.table({"weak_label": ["1", "2", "3", "4"], "label": ["a", "d", "e", "f"]})
    assert second.labels_of(table)["label"].to_pylist() == ["d", "e"]


GIB = 2**30


@pytest.mark.parametrize(
    ("runner", "workers"),
    [
        (RunnerConfig(kind="thread", max_workers=8), Workers(1, GIB)),
        (RunnerConfig(kind="process", max_workers=2), Workers(2, GIB // 2)),
        (RunnerConfig(kind="ray", max_workers=9), Workers(4, GIB // 4)),
        (RunnerConfig(kind="dask", max_workers=9, address="tcp://head:8786"), Workers(9, GIB)),
    ],
)
def test_workers_of_one_machine_share_its_memory(runner: RunnerConfig, workers: Workers):
    assert workers_of(runner, IndexConfig(max_memory_bytes=GIB)) == workers
