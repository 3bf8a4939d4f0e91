"""Hold what a round of picking and training is worth."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RoundFigures:
    """What a round is worth; means over seeds. Round 0 is `none`, before any image is taken.

    n_asked: failures that were asked for. n_new, n_taken: pool images picked for them, in this
    round and so far. metric: of the goal. debug_val, debug_heldout, test: accuracies, as shares.
    holds: whether test is not worse than `none`'s and the gate's guards hold, at the level of one
    round.
    """

    number: int
    n_asked: float
    n_new: float
    n_taken: float
    metric: float
    debug_val: float
    debug_heldout: float
    test: float
    holds: bool
