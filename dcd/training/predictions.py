"""Say what a model answers for images: the likeliest label and how sure the model is of it."""

from dataclasses import dataclass

import numpy as np

from dcd.training.head import LinearHead, probabilities


@dataclass(frozen=True)
class Predictions:
    """What a model says of N images: the likeliest label and its probability, (N,) float32."""

    labels: list[str]
    confidence: np.ndarray


def likeliest(probability: np.ndarray, classes: tuple[str, ...]) -> Predictions:
    """Return the top class of each row of (N, C) probabilities; the first class wins a tie."""
    top = probability.argmax(axis=1)
    confidence = probability[np.arange(len(top)), top].astype(np.float32)
    return Predictions([classes[i] for i in top], confidence)


def predict(head: LinearHead, features: np.ndarray) -> Predictions:
    """Return a head's predictions for raw features (N, D)."""
    return likeliest(probabilities(head, features), head.classes)
