"""Bring two models' answers to the same images together."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.evaluation.bursts import Groups
from dcd.evaluation.metrics import group_numbers
from dcd.evaluation.stats import PairedCounts, paired_counts


@dataclass(frozen=True)
class Pairs:
    """Outcomes (N,) bool of both models on the same images, and the images' true labels.

    groups: which of the images belong together.
    """

    labels: np.ndarray
    champion: np.ndarray
    candidate: np.ndarray
    groups: Groups

    @property
    def counts(self) -> PairedCounts:
        return paired_counts(self.candidate, self.champion, self.groups)

    @property
    def changes(self) -> np.ndarray:
        """(N,) in -1, 0, 1: what the candidate lost or won."""
        return self.candidate.astype(int) - self.champion.astype(int)


def paired(champion: pa.Table, candidate: pa.Table, split: str) -> Pairs:
    """Pair two models' predictions (schemas.PREDICTIONS, one model and seed each) on a split.

    The candidate's `group`, if it has such a column, names the images that belong together. Raises
    DataError if the split is empty or the two were not evaluated on the same images and labels.
    """
    before, after = rows_of(champion, split), rows_of(candidate, split)
    if before.num_rows == 0:
        raise DataError(f"gate: the champion has no predictions on {split}; evaluate it there")
    if not before.select(["image_id", "label"]).equals(after.select(["image_id", "label"])):
        raise DataError(
            f"gate: champion ({before.num_rows} images) and candidate ({after.num_rows}) were not "
            f"evaluated on the same {split} images and labels; evaluate both on the same ones"
        )
    return Pairs(
        np.array(before["label"].to_pylist()),
        pc.equal(before["label"], before["predicted"]).to_numpy(),
        pc.equal(after["label"], after["predicted"]).to_numpy(),
        group_numbers(after),
    )


def rows_of(predictions: pa.Table, split: str) -> pa.Table:
    """Return the predictions on a split, by image_id."""
    return predictions.filter(pc.equal(predictions["split"], split)).sort_by("image_id")
