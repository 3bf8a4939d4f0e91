"""Compute the losses of `dcd.training.losses` in torch, for fine-tuning a whole network."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy, log_softmax

from dcd.config import TrainingConfig
from dcd.training.losses import LabelDoubt, likelihoods, prediction_shares, targets

# (logits (B, C), indices (B,) of the images on the CPU, epoch from 0) -> loss of each image (B,)
BatchLoss = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def batch_loss(labels: np.ndarray, doubt: LabelDoubt, config: TrainingConfig) -> BatchLoss:
    """Return the loss of each image of a batch, 0 for those that `drop_high_loss` leaves out.

    labels: (N,) int64, class indices. Left out are, from the second epoch on (Han et al.'s warm-up)
    and within each batch, the pool images with the highest loss. It keeps nothing from step to
    step, so a training that was killed goes on as if it had not been.
    """
    hard = torch.from_numpy(labels)
    weak = torch.from_numpy(doubt.weak)
    forward = config.loss == "forward" and doubt.noise is not None
    plain = config.q == 0 and config.soft_labels == "none" and not forward

    def losses_of(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if plain:
            return cross_entropy(logits, hard[index].to(logits.device), reduction="none")
        rows = index.numpy()
        of_batch = doubt.take(rows)
        if forward:
            likelihood = torch.from_numpy(likelihoods(labels[rows], of_batch, logits.shape[1]))
            joint = log_softmax(logits, dim=1) + likelihood.to(logits.device).log()
            return -joint.logsumexp(dim=1)
        target = torch.from_numpy(targets(labels[rows], of_batch, logits.shape[1], config))
        share = torch.from_numpy(prediction_shares(of_batch, config))
        return robust_losses(logits, target.to(logits.device), share.to(logits.device), config.q)

    def loss(logits: torch.Tensor, index: torch.Tensor, epoch: int) -> torch.Tensor:
        losses = losses_of(logits, index)
        if config.drop_high_loss == 0 or epoch == 0:
            return losses
        return losses * kept(losses.detach(), weak[index], config.drop_high_loss)

    return loss


def robust_losses(
    logits: torch.Tensor, target: torch.Tensor, prediction_share: torch.Tensor, q: float
) -> torch.Tensor:
    """Compute the losses of `dcd.training.losses`, (B,).

    logits, target: (B, C) float32; prediction_share: (B,).
    """
    log_p = log_softmax(logits, dim=1)
    by_class = -log_p if q == 0 else (1 - (q * log_p).exp()) / q
    s = prediction_share[:, None]
    return (((1 - s) * target + s * log_p.exp()) * by_class).sum(dim=1)


def kept(losses: torch.Tensor, weak: torch.Tensor, share: float) -> torch.Tensor:
    """Return (B,) float32 on the losses' device: 0 for the `share` of weak images of highest loss.

    weak: (B,) bool on the CPU, so that a GPU is not waited for to count them.
    """
    n_dropped = round(share * int(weak.sum()))
    only_weak = losses.masked_fill(~weak.to(losses.device), -torch.inf)
    mask = torch.ones_like(losses)
    mask[only_weak.topk(n_dropped).indices] = 0
    return mask
