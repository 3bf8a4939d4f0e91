import numpy as np
import pyarrow as pa

from dcd.label_noise.trust import clean_head, label_trust
from tests.dcd.index.vector_pools import failures_table

VOTED = pa.array(["dog", "cat"])
CLASSES = ("cat", "dog")


def trust_of(votes: list[int], probability: list[float], label: str = "cat"):
    return label_trust(np.array([votes]), VOTED, [label], np.array([probability]), CLASSES)


def test_both_kinds_of_evidence_count():
    agreed = trust_of([1, 1, 1, 0], [0.8, 0.2])
    doubted = trust_of([1, 1, 1, 0], [0.2, 0.8])
    assert agreed.agreement == doubted.agreement == np.float32(0.75)
    # (3 + 1/2) : (1 + 1/2), times 8 : 2 or 2 : 8
    np.testing.assert_allclose(agreed.probability, [3.5 * 0.8 / (3.5 * 0.8 + 1.5 * 0.2)])
    np.testing.assert_allclose(doubted.probability, [3.5 * 0.2 / (3.5 * 0.2 + 1.5 * 0.8)])


def test_neither_side_rules_out_a_label_alone():
    assert trust_of([0, 0, 0, 0], [1.0, 0.0]).probability > 0.5
    assert trust_of([1, 1, 1, 1], [0.0, 1.0]).probability > 0


def test_without_neighbours_the_classifier_decides():
    found = trust_of([-1, -1], [0.3, 0.7])
    assert found.agreement == 0
    np.testing.assert_allclose(found.probability, [0.3], rtol=1e-6)


def test_labels_that_train_lacks_are_not_trusted():
    found = trust_of([1, 1], [0.5, 0.5], label="owl")
    assert (found.agreement, found.probability) == (0, 0)


def test_votes_for_labels_that_train_lacks_count_against():
    found = label_trust(
        np.array([[0, 1]]), pa.array(["owl", "cat"]), ["cat"], np.array([[0.5, 0.5]]), CLASSES
    )
    assert found.agreement == 0.5


def test_the_clean_head_knows_the_failures_too():
    train = failures_table(["cat", "dog"] * 4, np.array([[0.0, 0], [1, 0]] * 4), "t")
    failures = failures_table(["owl"] * 4, np.array([[0.0, 5]] * 4))
    assert clean_head(train, failures).classes == ("cat", "dog", "owl")
