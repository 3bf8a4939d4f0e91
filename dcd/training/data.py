"""What a model is trained on, features or encoded images, and what its training tells of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dcd.config import TrainingConfig
from dcd.images.preprocess import Preprocess
from dcd.images.spool import taken
from dcd.training.losses import LabelDoubt


@dataclass(frozen=True)
class TrainingSet:
    """Features of N images that a head is fitted to, with their labels.

    features: (N, D) float32. labels: N, of `classes`. weight: (N,) in the loss, not negative.
    doubt: how far the labels are to be believed.
    """

    features: np.ndarray
    labels: Sequence[str]
    classes: tuple[str, ...]
    weight: np.ndarray
    doubt: LabelDoubt

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of_true_labels(
        cls,
        features: np.ndarray,
        labels: Sequence[str],
        classes: tuple[str, ...],
        weight: np.ndarray | None = None,
    ) -> "TrainingSet":
        """Take all labels for true; without weights every image counts 1."""
        weight = np.ones(len(labels)) if weight is None else weight
        return cls(features, labels, classes, weight, LabelDoubt.none(len(labels)))

    def take(self, rows: np.ndarray) -> "TrainingSet":
        """Keep the images at these positions."""
        positions: list[int] = rows.tolist()
        labels = [self.labels[i] for i in positions]
        return TrainingSet(
            self.features[rows], labels, self.classes, self.weight[rows], self.doubt.take(rows)
        )


@dataclass(frozen=True)
class LabelledImages:
    """N encoded images, their labels, and their weights in the loss: (N,) or None for all 1.

    doubt: of their labels; None: all are true.
    """

    images: Sequence[bytes]
    labels: Sequence[str]
    weight: np.ndarray | None = None
    doubt: LabelDoubt | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> "LabelledImages":
        """Keep the images at these positions; weights and doubt are dropped."""
        rows: list[int] = indices.tolist()
        return LabelledImages(taken(self.images, indices), [self.labels[i] for i in rows])

    def rows(self, indices: np.ndarray) -> "LabelledImages":
        """Keep the images at these positions, with weights and doubt."""
        weight = None if self.weight is None else self.weight[indices]
        doubt = None if self.doubt is None else self.doubt.take(indices)
        return replace(self.take(indices), weight=weight, doubt=doubt)


@dataclass(frozen=True)
class RetrainingData:
    """What a whole network is trained on, and the images that judge it on the way.

    added: the picks and failures beside train. debug_val: None where there is none. shown: put on
    the ensembling curve, where they decide nothing.
    """

    train: LabelledImages
    added: LabelledImages
    debug_val: LabelledImages | None = None
    shown: Mapping[str, LabelledImages] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a whole network is trained: the classes in the order of its outputs, and the settings."""

    classes: tuple[str, ...]
    preprocess: Preprocess
    config: TrainingConfig
    seed: int


@dataclass(frozen=True)
class Progress:
    """Where a training is. `epoch` counts from 1; `score` is the last validation's, if any."""

    step: int
    n_steps: int
    epoch: int
    n_epochs: int
    loss: float
    score: float | None
    images_per_s: float
    remaining_s: float


@dataclass(frozen=True)
class CurvePoint:
    """One ensemble: alpha 0 is the original, 1 the fine-tuned; accuracy by split, as shares."""

    alpha: float
    accuracy: Mapping[str, float]
