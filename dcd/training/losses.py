"""Say what training images are taken for where labels may be wrong. Pure: arrays in, arrays out.

One loss serves all options, for image i with probabilities p over the classes k:

    loss_i = sum_k ((1 - s_i) t_ik + s_i p_ik) l(p_ik),   l(p) = (1 - p^q) / q

- q is that of the generalised cross-entropy (Zhang, Sabuncu: "Generalized cross entropy loss for
  training deep neural networks with noisy labels", NeurIPS 2018); as q goes to 0, l(p) is -log p.
- t is the target: the label, or for soft labels by agreement a mixture with the labels of the
  nearest pool images (label smoothing by neighbours, in the spirit of Bahri, Jiang, Gupta: "Deep
  k-NN for noisy labels", ICML 2020).
- s is the share of the model's own prediction in the target: soft bootstrapping (Reed et al.:
  "Training deep neural networks on noisy labels with bootstrapping", ICLR 2015 workshop), where
  the gradient goes through the prediction too.

The forward correction is another loss (Patrini, Rozza, Menon, Nock, Qu: "Making deep neural
networks robust to label noise: a loss correction approach", CVPR 2017). With n_kw the probability
that the pool calls an image of class k by w (`dcd.label_noise.noise_matrix`), the loss of a pool
image that is called w is

    loss_i = -log sum_k p_ik n_kw

that is, what the model says of the image's class is compared with what the pool says of it only
after the pool's own confusions. No image needs to be left out for its label.

`high_loss` finds what the small-loss trick leaves out (Han et al.: "Co-teaching: robust training of
deep neural networks with extremely noisy labels", NeurIPS 2018; here with one model).

Images of train and of the error sample have true labels: their targets stay what they are, and they
are never left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dcd.config import TrainingConfig

# logits (n, C), which of the N images these are -> losses (n,) and their gradients by the logits
# (n, C), in the logits' dtype.
ImageLosses = Callable[[np.ndarray, slice], tuple[np.ndarray, np.ndarray]]
EVERY = slice(None)
_TINY = 1e-30  # of a probability in float32: below it digits are lost


@dataclass(frozen=True)
class LabelDoubt:
    """Which of N labels may be wrong, and what the pool around those images says.

    weak: (N,) bool, true for images of the pool. votes: (N, V) int64, classes of the nearest pool
    images, -1 for none; V is 0 where nobody asked. noise: (C, C) float32, rows the true class,
    columns the label that the pool gives; None where nobody asked.
    """

    weak: np.ndarray
    votes: np.ndarray
    noise: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "LabelDoubt":
        """Return the doubt of the images at these positions."""
        return LabelDoubt(self.weak[rows], self.votes[rows], self.noise)

    @classmethod
    def none(cls, n: int) -> "LabelDoubt":
        """Return the doubt of n labels that are true."""
        return cls(np.zeros(n, bool), np.empty((n, 0), np.int64))


def joined(parts: Sequence[LabelDoubt]) -> LabelDoubt:
    """Join the images of all parts, one part after the other."""
    width = max(part.votes.shape[1] for part in parts)
    votes = [
        np.pad(part.votes, ((0, 0), (0, width - part.votes.shape[1])), constant_values=-1)
        for part in parts
    ]
    noise = next((part.noise for part in parts if part.noise is not None), None)
    return LabelDoubt(np.concatenate([part.weak for part in parts]), np.concatenate(votes), noise)


def image_losses(
    labels: np.ndarray, doubt: LabelDoubt, n_classes: int, config: TrainingConfig
) -> ImageLosses:
    """Return the loss that `config` asks for, of images with labels (N,), class indices."""
    if config.loss == "forward":
        likely = likelihoods(labels, doubt, n_classes)
        return lambda logits, rows: forward_losses_and_slopes(logits, likely[rows])
    target, share = targets(labels, doubt, n_classes, config), prediction_shares(doubt, config)
    if config.q == 0 and not share.any():
        return lambda logits, rows: cross_entropy_and_slopes(logits, target[rows])
    return lambda logits, rows: losses_and_slopes(logits, target[rows], share[rows], config.q)


def likelihoods(labels: np.ndarray, doubt: LabelDoubt, n_classes: int) -> np.ndarray:
    """Return how likely each class is to be given the image's label: (N, C) float32.

    labels: (N,), class indices. One-hot for labels that are true, and without a noise matrix.
    """
    found = np.eye(n_classes, dtype=np.float32)[labels]
    if doubt.noise is not None:
        found[doubt.weak] = doubt.noise.T[labels[doubt.weak]]
    return found


def targets(
    labels: np.ndarray, doubt: LabelDoubt, n_classes: int, config: TrainingConfig
) -> np.ndarray:
    """Return target distributions (N, C) float32 for labels (N,), class indices.

    One-hot, but for pool images under soft labels by agreement, as far as they have neighbours.
    """
    found = np.eye(n_classes, dtype=np.float32)[labels]
    if config.soft_labels == "agreement":
        counts = np.zeros_like(found)
        image, nth = np.nonzero((doubt.votes >= 0) & doubt.weak[:, None])
        np.add.at(counts, (image, doubt.votes[image, nth]), 1)
        total = counts.sum(axis=1, keepdims=True)
        share = np.where(total > 0, config.soft_share, 0).astype(np.float32)
        found = (1 - share) * found + share * counts / np.maximum(total, 1)
    return found


def prediction_shares(doubt: LabelDoubt, config: TrainingConfig) -> np.ndarray:
    """Return s of every image: (N,) float32; above 0 for pool images under bootstrapping."""
    share = config.soft_share if config.soft_labels == "bootstrap" else 0.0
    return np.where(doubt.weak, share, 0).astype(np.float32)


def high_loss(losses: np.ndarray, weak: np.ndarray, share: float) -> np.ndarray:
    """Choose which of N images to leave out: the `share` of the weak ones with the highest loss.

    losses: (N,). weak: (N,) bool. Of equal losses the earlier image goes. Returns (N,) bool.
    """
    candidates = np.flatnonzero(weak)
    order = np.argsort(-losses[candidates], kind="stable")
    dropped = np.zeros(len(losses), bool)
    dropped[candidates[order[: round(share * len(candidates))]]] = True
    return dropped


def forward_losses_and_slopes(
    logits: np.ndarray, likelihood: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute what `ImageLosses` give, of the forward correction.

    likelihood: (N, C), no row of zeros.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    joint = p * likelihood
    likely = joint.sum(axis=1, keepdims=True)
    losses = -np.log(np.maximum(likely, _TINY))[:, 0]
    slopes = p - joint / np.maximum(likely, _TINY)
    if (hidden := likely[:, 0] < _TINY).any():
        # In logarithms, since the only likely class has a p that rounds to 0.
        with np.errstate(divide="ignore"):
            log_joint = (shifted - np.log(total))[hidden] + np.log(likelihood[hidden])
        top = log_joint.max(axis=1, keepdims=True)
        joint = np.exp(log_joint - top)
        likely = joint.sum(axis=1, keepdims=True)
        losses[hidden] = -(top + np.log(likely))[:, 0]
        slopes[hidden] = p[hidden] - joint / likely
    return losses, slopes


def cross_entropy_and_slopes(
    logits: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute what `ImageLosses` give, of the cross-entropy with targets (N, C) of sum 1."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    losses = np.log(total)[:, 0] - np.einsum("nc,nc->n", target, shifted)
    p /= total
    p -= target
    return losses, p


def losses_and_slopes(
    logits: np.ndarray, target: np.ndarray, prediction_share: np.ndarray, q: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute each image's loss (N,) and gradient by logits (N, C), in the logits' dtype.

    logits, target: (N, C). prediction_share: (N,). q in 0...1, 0 being cross-entropy.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    # In logarithms, since p may round to 0 where -log p and p^(q-1) p do not.
    power = np.exp(q * log_p)
    loss = -log_p if q == 0 else (1 - power) / q
    s = prediction_share[:, None]
    mixed = (1 - s) * target + s * p
    # p times the derivative by p: l'(p) p is -p^q, and p in the target counts as well.
    by_p = s * p * loss - mixed * power
    return (mixed * loss).sum(axis=1), by_p - p * by_p.sum(axis=1, keepdims=True)
