"""Count the models that debug_val chooses among before it judges one. Pure.

Whatever is the best on some images looks better there than it is. The gate asks the same images, so
it has to know of how many the candidate was the best.
"""

from dcd.config import RunConfig, TrainingConfig

# What is judged where full training chooses by debug_val: points of weight ensembling, and of the
# lines between the ends of two stages.
ENSEMBLES, STAGED = 11, 21


def n_chosen_among(config: RunConfig) -> int:
    """Return of how many models the candidate of a seed may be the best on debug_val, at most.

    A head that is chosen by an objective is 1: the error sample and train choose it.
    """
    selection, objective = config.selection, config.selection.objective
    training = config.training.of_selection(
        selection.general_images, objective == "fixed", config.debug_val is not None
    )
    n_k = max(1, len(set(selection.k_candidates)))
    if training.mode == "head":
        return n_k
    return n_k * _epochs(training) * _averages(training, is_fixed=objective == "fixed")


def _epochs(training: TrainingConfig) -> int:
    """After how many epochs a training may have ended, over both stages."""
    if training.patience is None:
        return 1
    stage = training.stage
    return training.epochs * (1 if stage is None else stage.epochs or training.epochs)


def _averages(training: TrainingConfig, is_fixed: bool) -> int:
    """How many averages of networks are judged."""
    if training.stage is not None and not is_fixed:
        return STAGED
    return ENSEMBLES if training.ensemble_alpha == "choose" else 1
