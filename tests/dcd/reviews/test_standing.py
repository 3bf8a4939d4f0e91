"""What stands: the last decision on an image, undone ones aside."""

from collections.abc import Mapping

import pytest

from dcd.reviews.decisions import read_reviews, record
from dcd.reviews.standing import Standing, standing
from dcd.store import Store
from tests.dcd.reviews.said import content, said


def all_standing(tmp_path, *decisions) -> Mapping[bytes, Standing]:
    store = Store(str(tmp_path / "store"))
    for decision in decisions:
        record(store, [decision])
    return standing(read_reviews(store))


def stands(tmp_path, *decisions) -> Standing:
    return all_standing(tmp_path, *decisions)[content("x")]


@pytest.mark.parametrize(
    ("verb", "to", "true_label", "rejected"),
    [
        ("accept", None, "cat", set()),
        ("relabel", "dog", "dog", set()),
        ("reject", None, None, {"cat"}),
        ("skip", None, None, set()),
    ],
)
def test_one_decision(tmp_path, verb, to, true_label, rejected):
    found = stands(tmp_path, said(1, "x", verb, to))
    assert (found.verb, found.true_label, found.rejected) == (verb, true_label, rejected)
    assert found.counts == (verb != "skip")


def test_the_last_reviewer_wins(tmp_path):
    found = stands(tmp_path, said(1, "x", "accept"), said(2, "x", "reject", reviewer="bob"))
    assert (found.reviewer, found.true_label, found.rejected) == ("bob", None, {"cat"})


def test_an_undo_takes_back_the_last_of_the_same_reviewer_only(tmp_path):
    found = stands(
        tmp_path,
        said(1, "x", "accept"),
        said(2, "x", "relabel", "dog", reviewer="bob"),
        said(3, "x", "undo"),
        said(4, "x", "undo"),
    )
    assert (found.reviewer, found.true_label) == ("bob", "dog")


def test_what_was_all_taken_back_stands_no_more(tmp_path):
    assert not all_standing(tmp_path, said(1, "x", "accept"), said(2, "x", "undo"))


def test_a_skip_changes_nothing_that_was_said_before(tmp_path):
    found = stands(tmp_path, said(1, "x", "accept"), said(2, "x", "skip", reviewer="bob"))
    assert (found.verb, found.true_label) == ("skip", "cat")


def test_an_image_may_be_rejected_for_several_labels(tmp_path):
    found = stands(
        tmp_path,
        said(1, "x", "reject", label="cat"),
        said(2, "x", "reject", label="dog", reviewer="bob"),
        said(3, "x", "accept", label="dog"),
    )
    assert (found.true_label, found.rejected) == ("dog", {"cat"})
    assert found.shown == {"cat", "dog"}
