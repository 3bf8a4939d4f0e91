"""The recipe: a model for what was selected that no simple baseline beats, chosen by the data.

Some heads are ends of lines: `none` (train alone), `error_sample` (and the failures),
`whole_pool` (and every image of the selection, all weighing alike), `filtered_pool` (of those the
ones whose label the pool around them shares) and `targeted` (the selection as it is configured).
What lies between two ends is the average of their weights, so a whole line costs two fits.

What a model is worth is asked by one cross-validation of train and error sample together. Of train
it says what the model is worth on images like test (val), of the error sample what it is worth on
failures: an image is judged by heads that saw neither it nor what it would have picked from the
pool. `dcd.evaluation.choice` decides. debug_val, debug_heldout and test have no part in it, so the
gate's tests stay what they are (Stone 1974, "Cross-validatory choice and assessment of statistical
predictions", JRSS B 36:111). Fits of the cross-validation are made in fewer dimensions, and the
final ones start from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcd.cells.lines import BASELINES, ENDS, Line, Point, line_of, points
from dcd.config import Objective, TrainingConfig
from dcd.evaluation.choice import Candidate, Choice, choose_model, margin_scale, margins, soft_right
from dcd.threads import one_blas_thread
from dcd.training.data import TrainingSet
from dcd.training.head import (
    LinearHead,
    Standardizer,
    class_indices,
    fit_standardizer,
    loss_weights,
)
from dcd.training.head_average import Compression, average_heads, fit_compression
from dcd.training.losses import LabelDoubt
from dcd.training.robust_head import fit_head

MIN_AGREEMENT = 0.3  # of filtered_pool, as the baseline of that name has it by default
_MANY_ROWS = 10_000  # beyond them fewer folds: each costs a fit of every end
_FOLDS = {"few": 5, "many": 3}


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the ends are trained on: N images of train, then P of the pool, then E failures.

    features: (N + P + E, D) float32. labels: of all. agreement: (P,) in 0…1. added_weight: (P + E,)
    in the loss of `targeted`. asked: (A, 2) int, which pool image (of P) was picked for which
    failure (of E). unasked_weight: of a pool image there that no failure asks for. doubt: of all
    labels.
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

    @property
    def failure_labels(self) -> list[str]:
        return self.labels[self.n_train + len(self.agreement) :]

    def weights(self, end: str, known: np.ndarray | None = None) -> np.ndarray:
        """(P + E,) of the added images; 0: the end is not trained on it.

        known: (E,) bool, the failures that there are; default: all.
        """
        n_pool = len(self.agreement)
        is_pool = np.arange(len(self.added_weight)) < n_pool
        known = np.ones(len(is_pool) - n_pool, bool) if known is None else known
        match end:
            case "none":
                return np.zeros(len(is_pool))
            case "error_sample":
                return np.r_[np.zeros(n_pool), known.astype(float)]
            case "whole_pool":
                return np.where(is_pool, 1.0, 0.0)
            case "filtered_pool":
                agreeing = np.zeros(len(is_pool), bool)
                agreeing[:n_pool] = self.agreement >= MIN_AGREEMENT
                return np.where(agreeing, 1.0, 0.0)
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


@dataclass(frozen=True, eq=False)
class ChosenHead:
    """What was judged, in the order of `points`, the choice, and the heads of the chosen line."""

    judged: tuple[Candidate, ...]
    choice: Choice
    heads: Mapping[str, LinearHead]

    @property
    def chosen(self) -> Candidate:
        return self.judged[self.choice.index]

    @property
    def point(self) -> Point:
        return points()[self.choice.index]

    @property
    def line(self) -> Line:
        return line_of(self.point)

    @cached_property
    def head(self) -> LinearHead:
        return self.head_at(self.chosen.shares)

    def head_at(self, shares: Mapping[str, float]) -> LinearHead:
        """The average of the ends of the chosen line, with these shares."""
        return average_heads(self.heads, shares)


@dataclass(frozen=True, eq=False)
class JudgedEnds:
    """The ends by name, before anything is chosen. starts: heads on compressed features.

    val, failures: logits (N, C) of train and (E, C) of the error sample, by heads that did not see
    the image. is_val: (N,) bool, which images of train can be held out, and so judge.
    """

    candidates: Candidates
    compression: Compression
    starts: Mapping[str, LinearHead]
    val: Mapping[str, np.ndarray]
    failures: Mapping[str, np.ndarray]
    is_val: np.ndarray


@one_blas_thread()
def judge_ends(candidates: Candidates, config: TrainingConfig) -> JudgedEnds:
    """Fit the ends in fewer dimensions, on everything and by cross-validation. Deterministic.

    This is most of the recipe's work, and no objective changes it. Raises what `fit_head` raises.
    """
    standardizer = fit_standardizer(candidates.features[: candidates.n_train])
    compression = fit_compression(candidates.features, standardizer)
    few = _Fewer(candidates, compression, config)
    fitted = {end: few.cross_fit(end) for end in ENDS}
    return JudgedEnds(
        candidates,
        compression,
        {end: found.head for end, found in fitted.items()},
        {end: found.val for end, found in fitted.items()},
        {end: found.failures for end, found in fitted.items()},
        few.fold >= 0,
    )


def choose_head(ends: JudgedEnds, config: TrainingConfig, objective: Objective) -> ChosenHead:
    """Judge the lines between the ends, choose, and fit the ends of the chosen line in full."""
    judged = judge_points(ends)
    choice = choose_model(judged, BASELINES, objective)
    heads = {
        end: fit_end(ends.candidates, end, ends.compression, config, ends.starts[end])
        for end in line_of(points()[choice.index]).ends
    }
    return ChosenHead(judged, choice, heads)


def judge_points(ends: JudgedEnds) -> tuple[Candidate, ...]:
    """Judge all models of `dcd.cells.lines.points` by the logits of their ends; fits nothing."""
    candidates = ends.candidates
    truth = class_indices(candidates.labels[: candidates.n_train], candidates.classes)
    failing = class_indices(candidates.failure_labels, candidates.classes)
    judged = []
    for point in points():
        val = _mixed(ends.val, point.shares)[ends.is_val]
        failures = _mixed(ends.failures, point.shares)
        scale = margin_scale(margins(val, truth[ends.is_val]))
        judged.append(
            Candidate(
                point.shares,
                val.argmax(axis=1) == truth[ends.is_val],
                failures.argmax(axis=1) == failing,
                point.line_name,
                point.alpha,
                (
                    float(soft_right(val, truth[ends.is_val], scale).mean()),
                    float(soft_right(failures, failing, scale).mean()),
                ),
            )
        )
    return tuple(judged)


def fit_end(
    candidates: Candidates,
    end: str,
    compression: Compression,
    config: TrainingConfig,
    start: LinearHead,
) -> LinearHead:
    """The head of one end on raw features, from that on compressed ones."""
    every = np.ones(candidates.n_train, bool)
    weight = candidates.weights(end)
    data = _training_set(candidates, candidates.features, weight, every, config)
    return fit_head(data, compression.standardizer, config, compression.expand(start))


@dataclass(frozen=True, eq=False)
class _CrossFitted:
    """The head of everything, and logits (N, C), (E, C) by heads that did not see the image."""

    head: LinearHead
    val: np.ndarray
    failures: np.ndarray


class _Fewer:
    """The candidates in fewer dimensions, and the heads that are fitted there."""

    def __init__(self, candidates: Candidates, compression: Compression, config: TrainingConfig):
        self._of = candidates
        self._config = config
        self._features = compression.compress(candidates.features)
        dim = self._features.shape[1]
        self._as_they_are = Standardizer(np.zeros(dim, np.float32), np.ones(dim, np.float32))
        n_folds = _FOLDS["many" if len(candidates.features) > _MANY_ROWS else "few"]
        self.fold = folds(candidates.labels[: candidates.n_train], n_folds)
        self.failure_fold = failure_folds(candidates.failure_labels, n_folds)

    def cross_fit(self, end: str) -> _CrossFitted:
        """Fit one end with every fold left out, and with none.

        Heads of an end with pool images start from one that saw nothing but the pool, and so no
        image that is held out: most of the way is shared.
        """
        n_pool, n_failures = len(self._of.agreement), len(self.failure_fold)
        has_pool = (self._of.weights(end)[:n_pool] > 0).any()
        start = self._of_pool_alone if has_pool else None
        logits = np.zeros((len(self._features), len(self._of.classes)), np.float32)
        held_out = np.concatenate([self.fold, np.full(n_pool, -1), self.failure_fold])
        for fold in range(held_out.max() + 1):
            head = self._fit(end, self.fold != fold, self.failure_fold != fold, start)
            out = np.flatnonzero(held_out == fold)
            logits[out] = self._features[out] @ head.weight.T + head.bias
        everything = np.ones(self._of.n_train, bool), np.ones(n_failures, bool)
        head = self._fit(end, *everything, start)
        return _CrossFitted(head, logits[: self._of.n_train], logits[len(logits) - n_failures :])

    def _fit(
        self, end: str, kept: np.ndarray, known: np.ndarray, start: LinearHead | None
    ) -> LinearHead:
        """kept: (N,) bool, of train. known: (E,) bool, of the failures."""
        weight = self._of.weights(end, known)
        data = _training_set(self._of, self._features, weight, kept, self._config)
        return fit_head(data, self._as_they_are, self._config, start)

    @cached_property
    def _of_pool_alone(self) -> LinearHead | None:
        """None where the fits are convex and need no start."""
        if self._config.loss != "forward":
            return None
        n_classes, dim = len(self._of.classes), self._features.shape[1]
        flat = np.zeros((n_classes, dim), np.float32), np.zeros(n_classes, np.float32)
        nothing = np.zeros(self._of.n_train, bool), np.zeros(len(self.failure_fold), bool)
        return self._fit("whole_pool", *nothing, LinearHead(self._of.classes, *flat))


def folds(labels: Sequence[str], n: int) -> np.ndarray:
    """The fold of every image (N,), drawn within its class; -1: the only image of a class."""
    rng = np.random.default_rng(0)
    fold = np.full(len(labels), -1)
    _, target = np.unique(labels, return_inverse=True)
    for members in (np.flatnonzero(target == i) for i in range(target.max() + 1)):
        if len(members) > 1:
            fold[rng.permutation(members)] = np.arange(len(members)) % n
    return fold


def failure_folds(labels: Sequence[str], n: int) -> np.ndarray:
    """The fold of every failure (E,): of a class in turn, and the classes one after the other."""
    order = np.argsort(np.array(labels), kind="stable")
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % n
    return fold


def _training_set(
    candidates: Candidates,
    features: np.ndarray,
    added: np.ndarray,
    kept: np.ndarray,
    config: TrainingConfig,
) -> TrainingSet:
    """What an end is trained on, those of train being `kept`.

    features: of all, in any space. added: (P + E,), weights of the added images.
    """
    used = np.flatnonzero(added > 0)
    rows = np.concatenate([np.flatnonzero(kept), candidates.n_train + used])
    labels = [candidates.labels[i] for i in rows.tolist()]
    weight = loss_weights(labels, int(kept.sum()), added[used], config)
    doubt = candidates.doubt.take(rows)
    return TrainingSet(features[rows], labels, candidates.classes, weight, doubt)


def _mixed(logits: Mapping[str, np.ndarray], shares: Mapping[str, float]) -> np.ndarray:
    """The logits (N, C) of the average of some heads: the average of theirs."""
    return np.asarray(sum(share * logits[end] for end, share in shares.items()))
