"""What the ends of a recipe (`dcd.cells.recipe`) are trained on, and with which weights. Pure."""

from dataclasses import dataclass, replace

import numpy as np

from dcd.config import TrainingConfig
from dcd.training.data import TrainingSet
from dcd.training.head import loss_weights
from dcd.training.losses import LabelDoubt

MIN_AGREEMENT = 0.3  # of filtered_pool, as the baseline of that name has it by default


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the ends are trained on: N images of train, then P of the pool, then E failures.

    The first n_verified failures are images of the pool too, whose label people verified: what is
    trained on the pool is trained on them.

    features: (N + P + E, D) float32. labels: of all. agreement: (P,) in 0…1. added_weight: (P + E,)
    in the loss of `targeted`. asked: (A, 2) int, which pool image (of P) was picked for which
    failure (of E). unasked_weight: of a pool image there that no failure asks for. doubt: of all
    labels. pool_order: (P + n_verified,) int, the places of the pool's images and then of the
    verified failures in one order, which stays where images of the pool become failures; default:
    as they stand.
    """

    features: np.ndarray
    labels: list[str]
    classes: tuple[str, ...]
    n_train: int
    agreement: np.ndarray
    added_weight: np.ndarray
    asked: np.ndarray
    unasked_weight: float
    doubt: LabelDoubt
    n_verified: int = 0
    pool_order: np.ndarray | None = None

    @property
    def n_unfailing(self) -> int:
        """Of the images before the failures."""
        return self.n_train + len(self.agreement)

    @property
    def unfailing(self) -> np.ndarray:
        """Places of train and of the pool, verified failures being in their places there."""
        if self.pool_order is None:
            return np.arange(self.n_unfailing)
        return np.r_[np.arange(self.n_train), self.n_train + self.pool_order]

    @property
    def failure_labels(self) -> list[str]:
        return self.labels[self.n_unfailing :]

    def without_verified(self) -> "Candidates":
        """The same without the verified failures, whose weight the others take over."""
        if not self.n_verified:
            return self
        n, first, n_pool = self.n_verified, self.n_unfailing, len(self.agreement)
        rows = np.delete(np.arange(len(self.labels)), np.s_[first : first + n])
        weight = np.delete(self.added_weight, np.s_[n_pool : n_pool + n])
        weight[n_pool:] *= self.added_weight[n_pool:].sum() / weight[n_pool:].sum()
        return replace(
            self,
            features=self.features[rows],
            labels=[*self.labels[:first], *self.labels[first + n :]],
            added_weight=weight,
            asked=self.asked - [0, n],
            doubt=self.doubt.take(rows),
            n_verified=0,
            pool_order=None,
        )

    def weights(self, end: str, known: np.ndarray | None = None) -> np.ndarray:
        """(P + E,) of the added images; 0: the end is not trained on it.

        known: (E,) bool, the failures that there are; default: all.
        """
        n_pool = len(self.agreement)
        is_pool = np.arange(len(self.added_weight)) < n_pool
        known = np.ones(len(is_pool) - n_pool, bool) if known is None else known
        verified = known & (np.arange(len(known)) < self.n_verified)
        match end:
            case "none":
                return np.zeros(len(is_pool))
            case "error_sample":
                # Shared with what was verified, as in the selection: more of it costs test.
                share = 1 - self.n_verified / max(len(known), 1)
                return np.r_[np.zeros(n_pool), share * known]
            case "whole_pool":
                return np.r_[np.ones(n_pool), verified.astype(float)]
            case "filtered_pool":
                agreeing = self.agreement >= MIN_AGREEMENT
                return np.r_[agreeing.astype(float), verified.astype(float)]
            case _:
                return self._targeted(known)

    def _targeted(self, known: np.ndarray) -> np.ndarray:
        """The selection that fewer failures would have made, its share of the loss being kept."""
        if known.all():
            return self.added_weight
        n_pool = len(self.agreement)
        asked, still = np.zeros((2, len(self.added_weight)), bool)
        asked[self.asked[:, 0]], asked[n_pool:] = True, True
        still[self.asked[known[self.asked[:, 1]], 0]], still[n_pool:] = True, known
        weight = np.where(asked & ~still, self.unasked_weight, self.added_weight)
        weight[n_pool:][~known] = 0.0
        before, after = self.added_weight[asked].sum(), weight[asked & still].sum()
        return np.where(asked & still, weight * (before / after if after else 1.0), weight)


def training_set(
    candidates: Candidates,
    features: np.ndarray,
    added: np.ndarray,
    kept: np.ndarray,
    config: TrainingConfig,
) -> TrainingSet:
    """What an end is trained on, those of train being `kept`.

    features: of all, in any space; no copy is made of images that follow each other, for they may
    be most of memory. added: (P + E,), weights of the added images.
    """
    weight = weights_of_all(candidates, added, kept, config)
    rows = np.flatnonzero(weight)
    labels = [candidates.labels[i] for i in rows.tolist()]
    doubt = candidates.doubt.take(rows)
    is_span = len(rows) > 0 and int(rows[-1] - rows[0]) + 1 == len(rows)
    features = features[rows[0] : rows[-1] + 1] if is_span else features[rows]
    return TrainingSet(features, labels, candidates.classes, weight[rows], doubt)


def weights_of_all(
    candidates: Candidates, added: np.ndarray, kept: np.ndarray, config: TrainingConfig
) -> np.ndarray:
    """The weights in the loss of `training_set`, of all images: (N + P + E,), 0 for the others."""
    in_use = np.concatenate([kept, added > 0])
    labels = [candidates.labels[i] for i in np.flatnonzero(in_use).tolist()]
    found = np.zeros(len(in_use), np.float32)
    found[in_use] = loss_weights(labels, int(kept.sum()), added[added > 0], config)
    return found
