"""Which images a map shows: every label by its share, always the same ones."""

from collections import Counter

import numpy as np
import pytest

from dcd.maps.plan import plan_sample, stratified

LABELS = ["cat"] * 700 + ["dog"] * 290 + ["rare"] * 10


def drawn(rows: np.ndarray) -> Counter:
    return Counter(LABELS[row] for row in rows)


def test_labels_get_their_share_and_a_rare_one_is_there():
    rows = stratified(LABELS, 100)
    counts = drawn(rows)
    assert sum(counts.values()) == 100
    assert counts["cat"] == pytest.approx(70, abs=1)
    assert counts["rare"] >= 1
    assert (np.diff(rows) > 0).all()


def test_the_same_seed_draws_the_same_rows_and_another_one_others():
    assert stratified(LABELS, 100).tolist() == stratified(LABELS, 100).tolist()
    assert stratified(LABELS, 100).tolist() != stratified(LABELS, 100, seed=1).tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 999, 1000, 5000])
def test_as_many_as_were_asked_for_or_are_there(n):
    rows = stratified(LABELS, n)
    assert len(set(rows.tolist())) == len(rows) == min(n, len(LABELS))


def test_nothing_can_be_drawn_of_nothing():
    assert stratified([], 5).tolist() == []


@pytest.mark.parametrize(
    ("n_pool", "n_train", "drawn"),
    [(900, 900, (60, 30)), (900, 10, (80, 10)), (20, 900, (20, 70)), (20, 10, (20, 10))],
)
def test_pool_and_train_take_what_the_other_leaves(n_pool, n_train, drawn):
    sample = plan_sample(["a"] * n_pool, ["b"] * n_train, 90)
    assert (len(sample.pool), len(sample.train)) == drawn
