"""Judge the ends of a recipe by images that their heads did not see. Pure.

One cross-validation of train and error sample asks both: of train it says what a model is worth on
images like test (val), of the error sample what it is worth on failures. An image is judged by
heads that saw neither it nor what it would have picked from the pool (Stone 1974, "Cross-validatory
choice and assessment of statistical predictions", JRSS B 36:111). The fits are made in fewer
dimensions, and the final ones start from there.

Most of them saw no failure, and are what they were when new failures come: a caller may keep them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcd.cells.candidates import Candidates, training_set
from dcd.cells.lines import ENDS, WITHOUT_FAILURES
from dcd.config import TrainingConfig
from dcd.threads import one_blas_thread
from dcd.training.head import LinearHead, Standardizer, class_indices, fit_standardizer
from dcd.training.head_average import Compression, fit_compression
from dcd.training.robust_head import NEAR, fit_head

_MANY_ROWS = 10_000  # beyond them fewer folds: each costs a fit of every end
_FOLDS = {"few": 5, "many": 3}
# Without the pool a head has little but train, and would be judged poorer than it is for what is
# held out: more folds, while train is small enough to gain by them.
_FOLDS_OF_SMALL_TRAIN = 10

# What a fit is of, which tells it from others of the same train and pool, and the fit; gives the
# fit's head, perhaps one that was kept.
Keep = Callable[[str, Callable[[], LinearHead]], LinearHead]


@dataclass(frozen=True, eq=False)
class HeldOutLogits:
    """What the ends say of images that they did not see.

    val, failures: logits (V, C) and (E, C) by end. val_truth, failures_truth: (V,) and (E,), class
    indices. V leaves out what is the only image of its class, E the verified images of the pool.
    """

    val: Mapping[str, np.ndarray]
    failures: Mapping[str, np.ndarray]
    val_truth: np.ndarray
    failures_truth: np.ndarray


@dataclass(frozen=True, eq=False)
class JudgedEnds:
    """The ends by name, before anything is chosen. starts: heads on compressed features."""

    candidates: Candidates
    compression: Compression
    starts: Mapping[str, LinearHead]
    held_out: HeldOutLogits


def fit_anew(_: str, fit: Callable[[], LinearHead]) -> LinearHead:
    """Keep nothing."""
    return fit()


@one_blas_thread()
def judge_ends(candidates: Candidates, config: TrainingConfig, keep: Keep = fit_anew) -> JudgedEnds:
    """Fit the ends in fewer dimensions, on everything and by cross-validation. Deterministic.

    Nobody judges who has seen a verified failure: what people looked at for a failure is known only
    after it. This is most of the recipe's work, and no objective changes it. keep: asked for what
    saw no failure. Raises what `fit_head` raises.
    """
    compression = _compression_of(candidates)
    unverified = candidates.without_verified()
    few = _Fewer(unverified, compression, config, keep)
    fitted = {end: few.cross_fit(end) for end in ENDS}
    judges = few.fold >= 0
    truth = class_indices(candidates.labels[: candidates.n_train], candidates.classes)
    held_out = HeldOutLogits(
        {end: found.val[judges] for end, found in fitted.items()},
        {end: found.failures for end, found in fitted.items()},
        truth[judges],
        class_indices(unverified.failure_labels, candidates.classes),
    )
    starts = {end: found.head for end, found in fitted.items()}
    if candidates.n_verified:
        few = _Fewer(candidates, compression, config, keep)
        starts = {end: few.fit_whole(end) for end in ENDS}
    return JudgedEnds(candidates, compression, starts, held_out)


@one_blas_thread()
def fit_starts(
    candidates: Candidates, ends: Sequence[str], config: TrainingConfig, keep: Keep = fit_anew
) -> tuple[Compression, dict[str, LinearHead]]:
    """Fit some ends to everything, as `judge_ends` does; nothing is judged.

    Returns the fewer dimensions and the heads there, by end.
    """
    compression = _compression_of(candidates)
    few = _Fewer(candidates, compression, config, keep)
    return compression, {end: few.fit_whole(end) for end in ends}


def _compression_of(candidates: Candidates) -> Compression:
    """Of train and pool, so that new failures do not move the space that heads are fitted in.

    Nor do images of the pool that people verified: with and without their labels the same images
    of the same order are asked, so that what differs between two models is not the luck of a draw.
    """
    standardizer = fit_standardizer(candidates.features[: candidates.n_train])
    return fit_compression(candidates.features, standardizer, candidates.unfailing)


@one_blas_thread()
def right_out_of_fold(candidates: Candidates, config: TrainingConfig) -> np.ndarray:
    """Which failures the head of the selection as it is gets right unseen: (E,) bool.

    Those of the error sample; verified images of the pool are left out.

    As `judge_ends` does it, without the other ends. Raises what `fit_head` raises.
    """
    unverified = candidates.without_verified()
    few = _Fewer(unverified, _compression_of(candidates), config, fit_anew)
    found = few.cross_fit("targeted").failures
    return found.argmax(axis=1) == class_indices(unverified.failure_labels, candidates.classes)


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


@dataclass(frozen=True, eq=False)
class _CrossFitted:
    """The head of everything, and logits (N, C), (E, C) by heads that did not see the image."""

    head: LinearHead
    val: np.ndarray
    failures: np.ndarray


class _Fewer:
    """The candidates in fewer dimensions, and the heads that are fitted there."""

    def __init__(
        self, candidates: Candidates, compression: Compression, config: TrainingConfig, keep: Keep
    ):
        self._of = candidates
        self._config = config
        self._keep = keep
        self._features = compression.compress(candidates.features)
        dim = self._features.shape[1]
        self._as_they_are = Standardizer(np.zeros(dim, np.float32), np.ones(dim, np.float32))
        n_folds = _FOLDS["many" if candidates.n_unfailing > _MANY_ROWS else "few"]
        self.fold = folds(candidates.labels[: candidates.n_train], n_folds)
        n_more = n_folds if candidates.n_train > _MANY_ROWS else _FOLDS_OF_SMALL_TRAIN
        self._fold_without_pool = folds(candidates.labels[: candidates.n_train], n_more)
        self.failure_fold = failure_folds(candidates.failure_labels, n_folds)

    def cross_fit(self, end: str) -> _CrossFitted:
        """Fit one end with every fold left out, and with none."""
        if self._takes_pool(end):
            return self._cross_fit_with_pool(end)
        return self._cross_fit_without_pool(end, has_failures=end not in WITHOUT_FAILURES)

    def fit_whole(self, end: str) -> LinearHead:
        """Fit one end with no fold left out."""
        start = self._of_pool_alone if self._takes_pool(end) else None
        return self._fit(end, end, *self._everything, start)

    def _takes_pool(self, end: str) -> bool:
        return bool((self._of.weights(end)[: len(self._of.agreement)] > 0).any())

    def _cross_fit_with_pool(self, end: str) -> _CrossFitted:
        """Hold out of train and of the failures at once: each fit is dear.

        The heads start from one that saw nothing but the pool, and so no image that is held out:
        most of the way is shared.
        """
        n_pool, start = len(self._of.agreement), self._of_pool_alone
        logits = np.zeros((len(self._features), len(self._of.classes)), np.float32)
        held_out = np.concatenate([self.fold, np.full(n_pool, -1), self.failure_fold])
        for fold in range(held_out.max() + 1):
            kept, known = self.fold != fold, self.failure_fold != fold
            head = self._fit(f"{end} without fold {fold}", end, kept, known, start)
            out = held_out == fold
            logits[out] = self._logits(head, out)
        return _CrossFitted(self.fit_whole(end), *self._parted(logits))

    def _cross_fit_without_pool(self, end: str, has_failures: bool) -> _CrossFitted:
        """Hold out of train and of the failures in turn: the fits are cheap."""
        all_train, all_failures = self._everything
        head = self.fit_whole(end)
        val, failures = self._parted(self._logits(head, slice(None)))
        of_train, of_failures = self._parted(self._features)
        for fold in range(self._fold_without_pool.max() + 1):
            out = self._fold_without_pool == fold
            part = self._fit(f"{end} without fold {fold}", end, ~out, all_failures)
            val[out] = of_train[out] @ part.weight.T + part.bias
        for fold in range(self.failure_fold.max(initial=-1) + 1) if has_failures else ():
            out = self.failure_fold == fold
            part = self._fit(f"{end} without failures {fold}", end, all_train, ~out)
            failures[out] = of_failures[out] @ part.weight.T + part.bias
        return _CrossFitted(head, val, failures)

    @property
    def _everything(self) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(self._of.n_train, bool), np.ones(len(self.failure_fold), bool)

    def _parted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of train and those of the failures, of rows of everything."""
        return rows[: self._of.n_train], rows[len(rows) - len(self.failure_fold) :]

    def _logits(self, head: LinearHead, rows: np.ndarray | slice) -> np.ndarray:
        return self._features[rows] @ head.weight.T + head.bias

    def _fit(
        self,
        name: str,
        end: str,
        kept: np.ndarray,
        known: np.ndarray,
        start: LinearHead | None = None,
    ) -> LinearHead:
        """name: of the fit. kept: (N,) bool, of train. known: (E,) bool, of the failures."""
        weight = self._of.weights(end, known)

        def fit() -> LinearHead:
            data = training_set(self._of, self._features, weight, kept, self._config)
            return fit_head(data, self._as_they_are, self._config, start, NEAR)

        named = f"{name}, with what is verified" if self._of.n_verified else name
        return self._keep(named, fit) if end in WITHOUT_FAILURES else fit()

    @cached_property
    def _of_pool_alone(self) -> LinearHead | None:
        """None where the fits are convex and need no start."""
        if self._config.loss != "forward":
            return None
        n_classes, dim = len(self._of.classes), self._features.shape[1]
        flat = np.zeros((n_classes, dim), np.float32), np.zeros(n_classes, np.float32)
        nothing = np.zeros(self._of.n_train, bool), np.zeros(len(self.failure_fold), bool)
        flat_head = LinearHead(self._of.classes, *flat)
        return self._fit("whole_pool without train", "whole_pool", *nothing, flat_head)
