"""Say how far a weak label can be trusted: two kinds of evidence in one probability.

The neighbours of an image in the pool know its label independently of a classifier that was
trained on clean images: `train` and the error sample. Multiplied as in naive Bayes they find wrong
labels better than either (docs/selection.md). The classifier's side is confident learning
(Northcutt, Jiang, Chuang: "Confident learning: estimating uncertainty in dataset labels", JAIR
2021) with a clean training set; the neighbours' side is `dcd.label_noise.agreement`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.label_noise.agreement import (
    KnownVotes,
    Reference,
    as_classes,
    neighbor_labels,
    shares_of_label,
)
from dcd.tables.rows import weak_or_given_label
from dcd.tables.vectors import embedding_matrix
from dcd.training.data import TrainingSet
from dcd.training.head import LinearHead, fit_standardizer, probabilities, train_head

# Strong: a judge must not be as sure of its few training images as the best classifier is.
_L2 = 0.05


@dataclass(frozen=True)
class Trust:
    """What is known of N labels: how many neighbours share each, and how probably each is right.

    agreement, probability: (N,) float32 in 0…1.
    """

    agreement: np.ndarray
    probability: np.ndarray


Judge = Callable[[pa.Table], Trust]


def clean_head(train: pa.Table, *further: pa.Table) -> LinearHead:
    """Fit a classifier to images whose labels are right. Tables: schemas.labelled_features."""
    features = [embedding_matrix(table) for table in (train, *further)]
    labels = [label for table in (train, *further) for label in table["label"].to_pylist()]
    classes = tuple(sorted(set(labels)))
    every = TrainingSet.of_true_labels(np.concatenate(features), labels, classes)
    return train_head(every, fit_standardizer(features[0]), _L2)


def judge_labels(
    reference: Reference, head: LinearHead | None, known: KnownVotes | None = None
) -> Judge:
    """Make a function that says how to trust rows: label or weak_label, content_hash, embedding.

    Without a classifier it knows the agreement alone, and every probability is 1. known: votes that
    were counted before.
    """

    def judge(rows: pa.Table) -> Trust:
        votes = neighbor_labels(reference, rows, known=known)
        if head is None:
            agreement = shares_of_label(reference, rows, votes)
            return Trust(agreement, np.ones_like(agreement))
        labels = weak_or_given_label(rows)
        return label_trust(
            votes,
            reference.classes,
            labels.to_pylist(),
            probabilities(head, embedding_matrix(rows)),
            head.classes,
        )

    return judge


def label_trust(
    votes: np.ndarray,
    voted: pa.Array,
    labels: list[str],
    probability: np.ndarray,
    classes: tuple[str, ...],
) -> Trust:
    """Combine neighbours' votes and a classifier's probabilities about N images.

    votes, voted, probability, classes: as in `class_posterior`. A label that is not among the
    classes has no trust.
    """
    counts, support = class_posterior(votes, voted, probability, classes)
    n_votes = np.maximum((votes >= 0).sum(axis=1), 1)
    index = {name: i for i, name in enumerate(classes)}
    own = np.array([index.get(label, -1) for label in labels], np.int64)
    rows = np.arange(len(votes))
    known = own >= 0
    return Trust(
        np.where(known, counts[rows, own] / n_votes, 0).astype(np.float32),
        np.where(known, support[rows, own], 0).astype(np.float32),
    )


def class_posterior(
    votes: np.ndarray, voted: pa.Array, probability: np.ndarray, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many neighbours vote for each class, and how probable each is: (N, C) both.

    votes: (N, n) codes into `voted`, -1 for none. probability: (N, C), columns as `classes`, by a
    classifier. Each class gets a vote of 1/C on top, so that neither side can rule out one alone.
    """
    n_images, n_classes = probability.shape
    mapped = as_classes(votes, voted, classes)
    counts = np.zeros((n_images, n_classes))
    image, nth = np.nonzero(mapped >= 0)
    np.add.at(counts, (image, mapped[image, nth]), 1)
    support = (counts + 1 / n_classes) * np.maximum(probability, 1e-4)
    return counts, support / support.sum(axis=1, keepdims=True)
