"""The recipe: a model for what was selected that no simple baseline beats, chosen by the data.

Five heads are ends of lines: `none` (train alone), `error_sample` (and the failures),
`whole_pool` (and every image of the selection, all weighing alike), `filtered_pool` (of those the
ones whose label the pool around them shares) and `targeted` (the selection as it is configured).
What lies between two ends is the average of their weights, so a whole line costs two fits.

What a line is worth on images like test is asked of train itself by cross-validation (val), what it
is worth on the failures of debug_val: `dcd.evaluation.choice` decides. debug_heldout and test have
no part in it. Fits of the cross-validation are made in fewer dimensions, and the final ones start
from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcd.config import Objective, TrainingConfig
from dcd.evaluation.choice import Choice, Judged, choose_model
from dcd.training.data import TrainingSet
from dcd.training.ensembling import ALPHAS
from dcd.training.head import LinearHead, Standardizer, fit_standardizer, loss_weights
from dcd.training.head_average import Compression, average_heads, fit_compression
from dcd.training.losses import LabelDoubt
from dcd.training.robust_head import fit_head

BASELINES = ("none", "error_sample", "whole_pool", "filtered_pool")
LINES = (
    ("none", "whole_pool"),
    ("none", "targeted"),
    ("whole_pool", "targeted"),
    ("filtered_pool", "targeted"),
)
MIN_AGREEMENT = 0.3  # of filtered_pool, as the baseline of that name has it by default
_MANY_ROWS = 10_000  # beyond them fewer folds: each costs a fit of every end
_FOLDS = {"few": 5, "many": 3}


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the ends are trained on: N images of train, then P of the pool, then E failures.

    features: (N + P + E, D) float32. labels: of all. agreement: (P,) in 0…1. added_weight: (P + E,)
    in the loss of `targeted`. doubt: of all labels.
    """

    features: np.ndarray
    labels: list[str]
    classes: tuple[str, ...]
    n_train: int
    agreement: np.ndarray
    added_weight: np.ndarray
    doubt: LabelDoubt

    def weights(self, end: str) -> np.ndarray:
        """(P + E,) of the added images; 0: the end is not trained on it."""
        n_pool = len(self.agreement)
        is_pool = np.arange(len(self.added_weight)) < n_pool
        match end:
            case "none":
                return np.zeros(len(is_pool))
            case "error_sample":
                return np.where(is_pool, 0.0, 1.0)
            case "whole_pool":
                return np.where(is_pool, 1.0, 0.0)
            case "filtered_pool":
                agreeing = np.zeros(len(is_pool), bool)
                agreeing[:n_pool] = self.agreement >= MIN_AGREEMENT
                return np.where(agreeing, 1.0, 0.0)
            case _:
                return self.added_weight


@dataclass(frozen=True, eq=False)
class ChosenHead:
    """What was judged, in the order of `points`, the choice, and the heads of the chosen line."""

    judged: tuple[Judged, ...]
    choice: Choice
    heads: Mapping[str, LinearHead]

    @property
    def chosen(self) -> Judged:
        return self.judged[self.choice.index]

    @property
    def line(self) -> tuple[str, str]:
        return line_of(self.chosen.shares)

    @cached_property
    def head(self) -> LinearHead:
        return self.head_at(self.chosen.shares)

    def head_at(self, shares: Mapping[str, float]) -> LinearHead:
        """The average of the ends of the chosen line."""
        return average_heads(self.heads, shares)


@dataclass(frozen=True, eq=False)
class JudgedEnds:
    """The ends by name, before anything is chosen. starts: heads on compressed features.

    val, debug_val: logits (V, C) and (M, C), those of val by heads that did not see the image.
    is_val: (N,) bool, which images of train val is: those that can be held out.
    """

    candidates: Candidates
    compression: Compression
    starts: Mapping[str, LinearHead]
    val: Mapping[str, np.ndarray]
    debug_val: Mapping[str, np.ndarray]
    is_val: np.ndarray


def judge_ends(
    candidates: Candidates, on_debug_val: np.ndarray, config: TrainingConfig
) -> JudgedEnds:
    """Fit the ends in fewer dimensions, on all of train and by cross-validation. Deterministic.

    on_debug_val: features (M, D). This is most of the recipe's work, and no objective changes it.
    Raises what `fit_head` raises.
    """
    standardizer = fit_standardizer(candidates.features[: candidates.n_train])
    compression = fit_compression(candidates.features, standardizer)
    few = _Fewer(candidates, compression, config)
    fitted = {end: few.cross_fit(end) for end in (*BASELINES, "targeted")}
    starts = {end: head for end, (_, head) in fitted.items()}
    judging = compression.compress(on_debug_val)
    return JudgedEnds(
        candidates,
        compression,
        starts,
        {end: held_out[few.in_a_fold] for end, (held_out, _) in fitted.items()},
        {end: few.logits(head, judging) for end, head in starts.items()},
        few.in_a_fold,
    )


def choose_head(
    ends: JudgedEnds, debug_val_labels: Sequence[str], config: TrainingConfig, objective: Objective
) -> ChosenHead:
    """Judge the lines between the ends, choose, and fit the ends of the chosen line in full."""
    candidates = ends.candidates
    truth = np.array(candidates.labels[: candidates.n_train])[ends.is_val]
    failing = np.array(debug_val_labels)
    judged = [
        Judged(
            shares,
            _right(ends.val, shares, truth, candidates.classes),
            _right(ends.debug_val, shares, failing, candidates.classes),
        )
        for shares in points()
    ]
    choice = choose_model(judged, BASELINES, objective)
    heads = {
        end: fit_end(candidates, end, ends.compression, config, ends.starts[end])
        for end in line_of(judged[choice.index].shares)
    }
    return ChosenHead(tuple(judged), choice, heads)


def points() -> list[dict[str, float]]:
    """The shares of every model that is judged: the ends alone, then what lies between them."""
    ends = [{end: 1.0} for end in (*BASELINES, "targeted")]
    between = [
        {one: round(1 - alpha, 2), other: alpha}
        for one, other in LINES
        for alpha in ALPHAS
        if 0 < alpha < 1
    ]
    return ends + between


def line_of(shares: Mapping[str, float]) -> tuple[str, str]:
    """The ends of the line that a model lies on; of several lines the one to `targeted`."""
    used = {end for end, share in shares.items() if share}
    lines = [line for line in LINES if used <= set(line)]
    if not lines:  # `error_sample` is on no line
        (end,) = used
        return ("none", end)
    return next((line for line in reversed(lines) if line[0] != "filtered_pool"), lines[0])


def fit_end(
    candidates: Candidates,
    end: str,
    compression: Compression,
    config: TrainingConfig,
    start: LinearHead,
) -> LinearHead:
    """The head of one end on raw features, from that on compressed ones."""
    every = np.ones(candidates.n_train, bool)
    data = _training_set(candidates, candidates.features, end, every, config)
    return fit_head(data, compression.standardizer, config, compression.expand(start))


class _Fewer:
    """The candidates in fewer dimensions, and the heads that are fitted there."""

    def __init__(self, candidates: Candidates, compression: Compression, config: TrainingConfig):
        self._of = candidates
        self._config = config
        self._features = compression.compress(candidates.features)
        dim = self._features.shape[1]
        self._as_they_are = Standardizer(np.zeros(dim, np.float32), np.ones(dim, np.float32))
        self._fold = folds(
            candidates.labels[: candidates.n_train],
            _FOLDS["many" if len(candidates.features) > _MANY_ROWS else "few"],
        )

    @property
    def in_a_fold(self) -> np.ndarray:
        """(N,) bool, of train: what can be held out without its class being lost."""
        return self._fold >= 0

    def fit(self, end: str, kept: np.ndarray, start: LinearHead | None = None) -> LinearHead:
        """kept: (N,) bool, of train."""
        data = _training_set(self._of, self._features, end, kept, self._config)
        return fit_head(data, self._as_they_are, self._config, start)

    def logits(self, head: LinearHead, features: np.ndarray) -> np.ndarray:
        """(N, C) of compressed features."""
        return features @ head.weight.T + head.bias

    def cross_fit(self, end: str) -> tuple[np.ndarray, LinearHead]:
        """Logits (N, C) of train, of every image by a head that did not see it; the head of all.

        All heads start from one that saw the added images alone, so most of the way is shared.
        """
        start = self._without_train(end)
        found = np.zeros((self._of.n_train, len(self._of.classes)), np.float32)
        for fold in range(self._fold.max() + 1):
            out = np.flatnonzero(self._fold == fold)
            head = self.fit(end, self._fold != fold, start)
            found[out] = self.logits(head, self._features[out])
        return found, self.fit(end, np.ones(self._of.n_train, bool), start)

    def _without_train(self, end: str) -> LinearHead | None:
        """None where it would be a convex fit, which needs no start, or nothing is added."""
        n_classes, dim = len(self._of.classes), self._features.shape[1]
        added = self._of.n_train + np.flatnonzero(self._of.weights(end) > 0)
        if self._config.loss != "forward" or not self._of.doubt.weak[added].any():
            return None
        flat = np.zeros((n_classes, dim), np.float32), np.zeros(n_classes, np.float32)
        nothing = np.zeros(self._of.n_train, bool)
        return self.fit(end, nothing, LinearHead(self._of.classes, *flat))


def folds(labels: Sequence[str], n: int) -> np.ndarray:
    """The fold of every image (N,), drawn within its class; -1: the only image of a class."""
    rng = np.random.default_rng(0)
    fold = np.full(len(labels), -1)
    _, target = np.unique(labels, return_inverse=True)
    for members in (np.flatnonzero(target == i) for i in range(target.max() + 1)):
        if len(members) > 1:
            fold[rng.permutation(members)] = np.arange(len(members)) % n
    return fold


def _training_set(
    candidates: Candidates,
    features: np.ndarray,
    end: str,
    kept: np.ndarray,
    config: TrainingConfig,
) -> TrainingSet:
    """What an end is trained on, those of train being `kept`. features: of all, in any space."""
    added = candidates.weights(end)
    used = np.flatnonzero(added > 0)
    rows = np.concatenate([np.flatnonzero(kept), candidates.n_train + used])
    labels = [candidates.labels[i] for i in rows.tolist()]
    weight = loss_weights(labels, int(kept.sum()), added[used], config)
    doubt = candidates.doubt.take(rows)
    return TrainingSet(features[rows], labels, candidates.classes, weight, doubt)


def _right(
    logits: Mapping[str, np.ndarray],
    shares: Mapping[str, float],
    truth: np.ndarray,
    classes: tuple[str, ...],
) -> np.ndarray:
    """Whether the average of some heads is right: its logits are the average of theirs."""
    average = sum(share * logits[end] for end, share in shares.items())
    return np.array(classes)[np.asarray(average).argmax(axis=1)] == truth
