"""The recipe: a model for what was selected that no simple baseline beats, chosen by the data.

Some heads are ends of lines: `none` (train alone), `error_sample` (and the failures),
`whole_pool` (and every image of the selection, all weighing alike), `filtered_pool` (of those the
ones whose label the pool around them shares) and `targeted` (the selection as it is configured).
What lies between two ends is the average of their weights, so a whole line costs two fits.

What a model is worth is asked of train and error sample, by cross-validation
(`dcd.cells.cross_fitting`); `dcd.evaluation.choice` decides. debug_val, debug_heldout and test have
no part in it, so the gate's tests stay what they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from dcd.cells.candidates import Candidates, training_set
from dcd.cells.cross_fitting import HeldOutLogits, JudgedEnds, Keep, fit_anew
from dcd.cells.lines import BASELINES, WITHOUT_FAILURES, Line, Point, line_of, points
from dcd.config import Objective, TrainingConfig
from dcd.evaluation.choice import Answers, Candidate, Choice, choose_model
from dcd.training.head import LinearHead, as_they_are, folded, standardised, unfolded
from dcd.training.head_average import Compression, average_heads
from dcd.training.robust_head import fit_head


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


def choose_head(
    ends: JudgedEnds, config: TrainingConfig, objective: Objective, keep: Keep = fit_anew
) -> ChosenHead:
    """Judge the lines between the ends, choose, and fit the ends of the chosen line in full.

    keep: asked for what saw no failure.
    """
    judged = judge_points(ends.held_out)
    choice = choose_model(judged, BASELINES, objective)
    on_line = {end: ends.starts[end] for end in line_of(points()[choice.index]).ends}
    heads = fit_in_full(ends.candidates, ends.compression, on_line, config, keep)
    return ChosenHead(judged, choice, heads)


def fit_in_full(
    candidates: Candidates,
    compression: Compression,
    starts: Mapping[str, LinearHead],
    config: TrainingConfig,
    keep: Keep = fit_anew,
) -> dict[str, LinearHead]:
    """Fit ends on raw features, from their heads on compressed ones, by end.

    keep: as of `choose_head`.
    """
    full = _InFull(candidates, compression, config)
    heads = {}
    for end, start in starts.items():
        fit = partial(full.fit, end, start)
        heads[end] = keep(f"{end} in full", fit) if end in WITHOUT_FAILURES else fit()
    return heads


def judge_points(ends: HeldOutLogits) -> tuple[Candidate, ...]:
    """Judge all models of `dcd.cells.lines.points` by the logits of their ends; fits nothing."""
    judged = []
    for point in points():
        val = Answers(_mixed(ends.val, point.shares), ends.val_truth)
        failures = Answers(_mixed(ends.failures, point.shares), ends.failures_truth)
        judged.append(Candidate.judged(point.shares, val, failures, point.line_name, point.alpha))
    return tuple(judged)


@dataclass(frozen=True, eq=False)
class _InFull:
    """Heads on standardised features, which all of them share, and on raw ones."""

    candidates: Candidates
    compression: Compression
    config: TrainingConfig

    @cached_property
    def _features(self) -> np.ndarray:
        return standardised(self.candidates.features, self.compression.standardizer)

    def fit(self, end: str, start: LinearHead) -> LinearHead:
        """The head of one end on raw features, from that on compressed ones."""
        every = np.ones(self.candidates.n_train, bool)
        weight = self.candidates.weights(end)
        data = training_set(self.candidates, self._features, weight, every, self.config)
        of_train = self.compression.standardizer
        start_at = unfolded(self.compression.expand(start), of_train).astype(np.float32)
        first = LinearHead(start.classes, start_at[:, :-1], start_at[:, -1])
        found = fit_head(data, as_they_are(self._features.shape[1]), self.config, first)
        return folded(found.classes, np.column_stack([found.weight, found.bias]), of_train)


def _mixed(logits: Mapping[str, np.ndarray], shares: Mapping[str, float]) -> np.ndarray:
    """The logits (N, C) of the average of some heads: the average of theirs."""
    return np.asarray(sum(share * logits[end] for end, share in shares.items()))
