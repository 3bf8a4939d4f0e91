from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dcd.report.gallery import Gallery, pictures, plan_gallery, within
from dcd.report.thumbnails import Album
from dcd.tables import schemas
from tests.dcd.report.run_records import neighbors, record


def sample(rows: list[tuple[str, str, str | None, str | None]]) -> pa.Table:
    columns = schemas.ERROR_SAMPLE.names
    return pa.Table.from_pylist(
        [dict(zip(columns, row, strict=True)) for row in rows], schemas.ERROR_SAMPLE
    )


def plan(max_failures: int = 100, max_picks: int = 100) -> Gallery:
    made = record(n_failures=7, n_picks=10)
    return plan_gallery(made.error_sample, made.neighbors, max_failures, max_picks)


def test_failures_are_grouped_by_label_and_mode():
    found = plan()
    assert [(g.label, g.mode, g.n_failures) for g in found.groups] == [
        ("cat", "m0", 4),
        ("dog", "m1", 3),
    ]
    assert found.reasons == (("in train", 14),)
    assert (found.n_kept, found.n_rejected) == (56, 14)


def test_picks_come_in_rank_order_with_those_rejected():
    (first, *_), *_ = (group.failures for group in plan().groups)
    assert [pick.rank for pick in first.picks] == list(range(1, 11))
    assert [pick.rank for pick in first.picks if not pick.kept] == [5, 10]


def test_the_limit_on_failures_is_shared_out_among_the_groups():
    found = plan(max_failures=3)
    assert [len(group.failures) for group in found.groups] == [2, 1]
    assert [group.n_hidden for group in found.groups] == [2, 2]
    assert found.n_failures == 7


def test_the_nearest_picks_are_shown_and_the_others_counted():
    failure = plan(max_picks=4).groups[0].failures[0]
    assert [pick.rank for pick in failure.picks] == [1, 2, 3, 4]
    assert failure.n_hidden == 6


def test_images_that_the_model_gets_wrong_come_first():
    errors = sample(
        [("a", "cat", "cat", None), ("b", "cat", "dog", None), ("c", "cat", None, None)]
    )
    (group,) = plan_gallery(errors, schemas.NEIGHBORS.empty_table(), 10, 10).groups
    assert [failure.image_id for failure in group.failures] == ["b", "c", "a"]


def test_a_failure_without_neighbours_is_kept():
    errors = sample([("a", "cat", "dog", None)])
    found = plan_gallery(errors, schemas.NEIGHBORS.empty_table(), 10, 10)
    assert found.groups[0].failures[0].picks == ()
    assert (found.n_kept, found.n_rejected) == (0, 0)


def test_failures_are_pictured_before_picks_and_near_picks_before_far_ones():
    found = pictures(plan())
    assert all(i.origin == "failure" for i in found[:7])
    ranks = [int(i.image_id[-3:]) for i in found[7:]]
    assert ranks == sorted(ranks)


def test_picks_that_found_no_room_count_as_hidden():
    planned = plan()
    room = frozenset(pictures(planned)[: 7 + 2 * 7])
    trimmed = within(planned, Album(dict.fromkeys(room, ""), frozenset()))
    failures = [failure for group in trimmed.groups for failure in group.failures]
    assert {len(failure.picks) for failure in failures} == {2}
    assert {failure.n_hidden for failure in failures} == {8}


def test_a_picture_that_does_not_decode_keeps_its_place():
    planned = plan()
    assert within(planned, Album({}, frozenset(pictures(planned)))) == planned


@given(
    groups=st.lists(st.sampled_from("abcde"), max_size=30),
    max_failures=st.integers(0, 40),
    max_picks=st.integers(0, 8),
)
def test_shown_and_hidden_always_add_up(groups: list[str], max_failures: int, max_picks: int):
    errors = sample([(f"e{i:02d}", label, None, None) for i, label in enumerate(groups)])
    found = plan_gallery(errors, neighbors(errors, 6), max_failures, max_picks)
    shown = [failure for group in found.groups for failure in group.failures]
    assert len(shown) == min(max_failures, len(groups))
    hidden_groups = Counter(groups)
    for group in found.groups:
        assert len(group.failures) + group.n_hidden == hidden_groups.pop(group.label)
    assert found.n_hidden_groups == len(hidden_groups)
    assert found.n_kept + found.n_rejected == 6 * len(groups)
    for failure in shown:
        assert len(failure.picks) + failure.n_hidden == failure.n_kept + failure.n_rejected == 6
