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

from dcd.cells.candidates import Candidates, training_set, weights_of_all
from dcd.cells.lines import ENDS, WITHOUT_FAILURES
from dcd.config import TrainingConfig
from dcd.threads import one_blas_thread
from dcd.training.head import LinearHead, as_they_are, class_indices, fit_standardizer
from dcd.training.head_average import Compression, fit_compression
from dcd.training.robust_head import NEAR, fit_head, fit_together

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
    compression = _compression_of(candidates, keep)
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
    compression = _compression_of(candidates, keep)
    few = _Fewer(candidates, compression, config, keep)
    return compression, {end: few.fit_whole(end) for end in ends}


def _compression_of(candidates: Candidates, keep: Keep) -> Compression:
    """Of train and pool, so that new failures do not move the space that heads are fitted in.

    Nor do images of the pool that people verified: with and without their labels the same images
    of the same order are asked, so that what differs between two models is not the luck of a draw.
    """
    standardizer = fit_standardizer(candidates.features[: candidates.n_train])

    def fit() -> LinearHead:
        features, rows = candidates.features, candidates.unfailing
        return fit_compression(features, standardizer, rows).as_head()

    return Compression.of_head(standardizer, keep("compression", fit))


@one_blas_thread()
def right_out_of_fold(candidates: Candidates, config: TrainingConfig) -> np.ndarray:
    """Which failures the head of the selection as it is gets right unseen: (E,) bool.

    Those of the error sample; verified images of the pool are left out.

    As `judge_ends` does it, without the other ends. Raises what `fit_head` raises.
    """
    unverified = candidates.without_verified()
    few = _Fewer(unverified, _compression_of(candidates, fit_anew), config, fit_anew)
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


@dataclass(frozen=True, eq=False)
class _Part:
    """What a head is fitted to. kept: (N,) bool, of train. known: (E,) bool, of the failures."""

    name: str
    kept: np.ndarray
    known: np.ndarray


class _Fewer:
    """The candidates in fewer dimensions, and the heads that are fitted there."""

    def __init__(
        self, candidates: Candidates, compression: Compression, config: TrainingConfig, keep: Keep
    ):
        self._of = candidates
        self._config = config
        self._keep = keep
        self._features = compression.compress(candidates.features)
        self._as_they_are = as_they_are(self._features.shape[1])
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
        return self._fit_all(end, [self._whole(end)], start)[0]

    def _takes_pool(self, end: str) -> bool:
        return bool((self._of.weights(end)[: len(self._of.agreement)] > 0).any())

    def _cross_fit_with_pool(self, end: str) -> _CrossFitted:
        """Hold out of train and of the failures at once: each fit is dear.

        The heads start from one that saw nothing but the pool, and so no image that is held out:
        most of the way is shared.
        """
        n_pool = len(self._of.agreement)
        logits = np.zeros((len(self._features), len(self._of.classes)), np.float32)
        held_out = np.concatenate([self.fold, np.full(n_pool, -1), self.failure_fold])
        parts = [
            _Part(f"{end} without fold {fold}", self.fold != fold, self.failure_fold != fold)
            for fold in range(held_out.max() + 1)
        ]
        whole, *heads = self._fit_all(end, [self._whole(end), *parts], self._of_pool_alone)
        for fold, head in enumerate(heads):
            out = held_out == fold
            logits[out] = self._logits(head, out)
        return _CrossFitted(whole, *self._parted(logits))

    def _cross_fit_without_pool(self, end: str, has_failures: bool) -> _CrossFitted:
        """Hold out of train and of the failures in turn: the fits are cheap."""
        whole = self._whole(end)
        of_train = [
            _Part(f"{end} without fold {fold}", self._fold_without_pool != fold, whole.known)
            for fold in range(self._fold_without_pool.max() + 1)
        ]
        of_failures = [
            _Part(f"{end} without failures {fold}", whole.kept, self.failure_fold != fold)
            for fold in (range(self.failure_fold.max(initial=-1) + 1) if has_failures else ())
        ]
        head, *heads = self._fit_all(end, [whole, *of_train, *of_failures])
        val, failures = self._parted(self._logits(head, slice(None)))
        train_rows, failure_rows = self._parted(self._features)
        for part, of in zip(of_train, heads[: len(of_train)], strict=True):
            val[~part.kept] = train_rows[~part.kept] @ of.weight.T + of.bias
        for part, of in zip(of_failures, heads[len(of_train) :], strict=True):
            failures[~part.known] = failure_rows[~part.known] @ of.weight.T + of.bias
        return _CrossFitted(head, val, failures)

    def _whole(self, end: str) -> _Part:
        kept = np.ones(self._of.n_train, bool)
        return _Part(end, kept, np.ones(len(self.failure_fold), bool))

    def _parted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of train and those of the failures, of rows of everything."""
        return rows[: self._of.n_train], rows[len(rows) - len(self.failure_fold) :]

    def _logits(self, head: LinearHead, rows: np.ndarray | slice) -> np.ndarray:
        return self._features[rows] @ head.weight.T + head.bias

    def _fit_all(
        self, end: str, parts: Sequence[_Part], start: LinearHead | None = None
    ) -> list[LinearHead]:
        """The first part is everything. What may be kept is fitted for itself: others move it."""
        if end in WITHOUT_FAILURES:
            return [self._fit(end, part, start) for part in parts]
        weights = [
            weights_of_all(self._of, self._of.weights(end, part.known), part.kept, self._config)
            for part in parts
        ]
        every = training_set(
            self._of, self._features, self._of.weights(end), parts[0].kept, self._config
        )
        rows = np.flatnonzero(weights[0])
        return fit_together(every, [w[rows] for w in weights], self._config, start, NEAR)

    def _fit(self, end: str, part: _Part, start: LinearHead | None) -> LinearHead:
        def fit() -> LinearHead:
            weight = self._of.weights(end, part.known)
            data = training_set(self._of, self._features, weight, part.kept, self._config)
            return fit_head(data, self._as_they_are, self._config, start, NEAR)

        of_verified = ", with what is verified" if self._of.n_verified else ""
        return self._keep(f"{part.name}{of_verified}", fit)

    @cached_property
    def _of_pool_alone(self) -> LinearHead | None:
        """None where the fits are convex and need no start."""
        if self._config.loss != "forward":
            return None
        n_classes, dim = len(self._of.classes), self._features.shape[1]
        flat = np.zeros((n_classes, dim), np.float32), np.zeros(n_classes, np.float32)
        nothing = np.zeros(self._of.n_train, bool), np.zeros(len(self.failure_fold), bool)
        flat_head = LinearHead(self._of.classes, *flat)
        return self._fit("whole_pool", _Part("whole_pool without train", *nothing), flat_head)
