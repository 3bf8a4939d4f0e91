"""How an answer would change without single training images. Pure: arrays in, arrays out.

Koh, Liang: "Understanding black-box predictions via influence functions", ICML 2017, for heads on
frozen features. Without image i a head's loss, times a constant, is the old one less s_i times the
image's own loss and as much of the penalty (a mean over fewer images is penalised more), so that to
first order its parameters change by

    Δ_i = H⁻¹ s_i (∇loss_i + l2 V).

A model may be a weighted sum of heads; its logits are then that sum of theirs, and so is what an
image changes in them. One linear system a head answers for all of its images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcd.cells.fits import HeadFit
from dcd.influence.curvature import Curvature, extended
from dcd.threads import one_blas_thread
from dcd.training.head import LinearHead


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of an image whose label is known.

    rival: the likeliest other class. margin: of the label's logit over the rival's, below 0 where
    the answer is wrong. loss: cross-entropy of the label, in nats. All are of the model's logits.
    """

    label: int
    rival: int
    margin: float
    loss: float
    probability: np.ndarray

    @property
    def predicted(self) -> int:
        return self.label if self.margin >= 0 else self.rival

    @property
    def slopes(self) -> dict[str, np.ndarray]:
        """The gradients of margin and loss by the logits, (C,) each."""
        of_label = np.eye(len(self.probability))[self.label]
        of_rival = np.eye(len(self.probability))[self.rival]
        return {"margin": of_label - of_rival, "loss": self.probability - of_label}


@dataclass(frozen=True, eq=False)
class RemovalEffects:
    """What taking out each of M images would change in an answer: (M,) float64 each.

    damping: the most that had to be added to a Hessian, 0 as a rule.
    """

    answer: Answer
    margin: np.ndarray
    loss: np.ndarray
    damping: float

    @property
    def n_to_flip(self) -> int | None:
        """How many, taken out together, would turn the answer, if their effects added up.

        A wrong answer becomes the label, a right one the rival; None: not even all of them.
        """
        toward = self.margin if self.answer.margin < 0 else -self.margin
        gained = np.cumsum(np.sort(toward[toward > 0])[::-1])
        enough = np.flatnonzero(gained > abs(self.answer.margin))
        return int(enough[0]) + 1 if len(enough) else None


def answer_of(head: LinearHead, features: np.ndarray, label: int) -> Answer:
    """Ask a head about raw features (D,) of an image. label: its place among the classes."""
    logits = head.weight.astype(float) @ features.astype(float) + head.bias
    scores = np.exp(logits - logits.max())
    probability = scores / scores.sum()
    others = np.where(np.arange(len(logits)) == label, -np.inf, logits)
    rival = int(others.argmax())
    loss = float(np.log(scores.sum()) - (logits[label] - logits.max()))
    return Answer(label, rival, float(logits[label] - logits[rival]), loss, probability)


@one_blas_thread()
def removal_effects(
    fits: Sequence[HeadFit], n_images: int, answer: Answer, features: np.ndarray
) -> RemovalEffects:
    """Foretell what each image's removal would change in an answer, all else being kept.

    fits: of the heads that the model is the weighted sum of, whose `rows` name n_images images.
    features: (D,), raw, of the image that was asked about. An image that no fit uses changes
    nothing. Raises NotAMinimum where a fit's loss has no upward curvature.
    """
    changes = {name: np.zeros(n_images) for name in answer.slopes}
    most = 0.0
    for fit in fits:
        around = Curvature.of(fit)
        slopes = around.slopes(around.at)
        asked = extended(fit, features)
        for name, slope in answer.slopes.items():
            solution, damping = around.solve(np.outer(fit.share * slope, asked))
            by_loss = (slopes * around.logits(solution)).sum(axis=1)
            by_penalty = float(np.sum(around.rate * solution * around.at))
            np.add.at(changes[name], fit.rows, around.share * (by_loss + by_penalty))
            most = max(most, damping)
    return RemovalEffects(answer, changes["margin"], changes["loss"], most)
