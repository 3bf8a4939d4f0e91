"""A small case for the recipe: two classes, failures on the other side of one axis."""

import numpy as np

from dcd.cells.candidates import Candidates
from dcd.config import TrainingConfig
from dcd.training.losses import LabelDoubt

CLASSES = ("left", "right")
CONFIG = TrainingConfig()


def images(rng: np.random.Generator, n: int, failing: bool) -> tuple[np.ndarray, list[str]]:
    """Two classes apart on the first axis; failing ones lie mirrored, and far out on the second."""
    target = np.arange(n) % 2
    x = rng.normal(size=(n, 8)).astype(np.float32)
    x[:, 0] += np.where(target == 1, 2, -2) * (0.2 if failing else 1)
    if failing:
        x[:, 1] += np.where(target == 1, 3, -3)
    return x, [CLASSES[i] for i in target]


def recipe_candidates() -> Candidates:
    rng = np.random.default_rng(0)
    parts = [images(rng, 120, False), images(rng, 200, False), images(rng, 60, True)]
    failures = images(rng, 20, True)
    labels = [label for _, of_part in [*parts, failures] for label in of_part]
    noise = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    weak = np.r_[np.zeros(120, bool), np.ones(260, bool), np.zeros(20, bool)]
    return Candidates(
        features=np.concatenate([x for x, _ in [*parts, failures]]),
        labels=labels,
        classes=CLASSES,
        n_train=120,
        agreement=np.r_[np.full(130, 0.9), np.full(130, 0.1)],
        added_weight=np.r_[np.ones(200), np.full(60, 5.0), np.full(20, 9.0)],
        asked=np.stack([np.arange(200, 260), np.arange(60) % 20], axis=1),
        unasked_weight=1.0,
        doubt=LabelDoubt(weak, np.empty((400, 0), np.int64), noise),
    )
