"""Two stages of full training, and what lies between them: a network that no simple one beats.

First the network learns the pool as a whole, with the loss that knows the noise of its labels; then
the targeted picks and the failures, from there. The first end is best on images like test, the
second on the failures; the average of their weights keeps most of both (WiSE-FT: Wortsman et al.
2022, "Robust fine-tuning of zero-shot models", CVPR). Which point of the line is taken is decided
as for heads (`dcd.evaluation.choice`), on debug_val and on the part of train that was held out.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from torch import nn

from dcd.config import Objective, Split, TrainingConfig
from dcd.evaluation.choice import UNKNOWN, Answers, Candidate, Choice, choose_model
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import CurvePoint, LabelledImages, Progress, Recipe
from dcd.training.ensembling import (
    ALPHAS,
    choose,
    ensemble,
    interpolation_curve,
)
from dcd.training.finetune import finetune, logits_of_images
from dcd.training.retrain import (
    HeldOut,
    batchnorm_of,
    judges_of,
    mean_score,
    right,
    together,
)

NONE, WHOLE_POOL, TARGETED = "none", "whole_pool", "targeted"
LINES = ((NONE, WHOLE_POOL), (WHOLE_POOL, TARGETED))
FIRST_STAGE = "pool"  # of the checkpoint


@dataclass(frozen=True)
class StagedData:
    """What the stages are trained on, and the images that judge the networks.

    pool: all pool images of the selection. aimed: its targeted picks and the failures, with their
    weights. shown: put on the curve, where they decide nothing.
    """

    train: LabelledImages
    pool: LabelledImages
    aimed: LabelledImages
    debug_val: LabelledImages
    shown: Mapping[str, LabelledImages] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        judging: Mapping[Split, LabelledImages],
        added: LabelledImages,
        is_pool: np.ndarray,
        is_aimed: np.ndarray,
        shown: Mapping[str, LabelledImages] | None = None,
    ) -> "StagedData":
        """Divide what is added, (N,) bool each; in the first stage all pool images weigh alike.

        judging: train and debug_val among others.
        """
        pool, aimed = (added.rows(np.flatnonzero(rows)) for rows in (is_pool, is_aimed))
        alike = replace(pool, weight=None)
        return cls(judging["train"], alike, aimed, judging["debug_val"], shown or {})


@dataclass(frozen=True)
class Beginnings:
    """Networks before fine-tuning, made afresh at every call.

    none: classifies as train taught it; start: what the first stage starts from.
    """

    none: Callable[[], nn.Module]
    start: Callable[[], nn.Module]


@dataclass(frozen=True)
class StagedModel:
    """The chosen network, at `alpha` of its line. chosen: which one it is and why, in a sentence.

    curve: accuracies along that line.
    """

    network: nn.Module
    alpha: float
    line: tuple[str, str]
    curve: tuple[CurvePoint, ...]
    chosen: str


@dataclass(frozen=True, eq=False)
class Ends:
    """The networks between which one is chosen, and what judges them.

    val: images of train that neither stage has seen. learnt: what the second stage was trained on,
    of which BatchNorm's statistics are taken where they are not frozen: alike on all points.
    """

    networks: Mapping[str, nn.Module]
    val: LabelledImages
    learnt: LabelledImages

    def at(self, shares: Mapping[str, float], recipe: Recipe) -> nn.Module:
        """Average two ends; shares by name, their sum being 1."""
        first, second = line_of(shares)
        recompute = batchnorm_of(self.learnt, recipe)
        share = shares.get(second, 0.0)
        return ensemble(self.networks[first], self.networks[second], share, recompute)


def retrain_in_stages(
    begin: Beginnings,
    data: StagedData,
    recipe: Recipe,
    objective: Objective,
    *,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StagedModel:
    """Train both stages and choose on the lines between none, the first and the second end.

    objective: of the choice; fixed: `ensemble_alpha` of the config decides, the first stage's end
    being the original. A training that was killed goes on in the stage that it was in. Raises what
    `finetune` raises.
    """
    ends = train_ends(begin, data, recipe, checkpoint=checkpoint, on_progress=on_progress)
    return choose_network(ends, data, recipe, objective)


def train_ends(
    begin: Beginnings,
    data: StagedData,
    recipe: Recipe,
    *,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Ends:
    """Train both stages; `recipe.config.pool_stage` must be given."""
    held_out = HeldOut.of(data.train, recipe)
    judges = judges_of({"val": held_out.val, "debug_val": data.debug_val}, recipe)
    validate = None if recipe.config.patience is None else partial(mean_score, judges=judges)
    first = finetune(
        begin.start(),
        together(held_out.kept, data.pool, recipe.config),
        pool_recipe(recipe),
        validate=validate,
        checkpoint=checkpoint.of_stage(FIRST_STAGE) if checkpoint else None,
        on_progress=on_progress,
    )
    learnt = second_stage(held_out.kept, data.aimed, recipe.config)
    second = finetune(
        copy.deepcopy(first),
        learnt,
        recipe,
        validate=validate,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    none = begin.none().to(next(second.parameters()).device)
    return Ends({NONE: none, WHOLE_POOL: first, TARGETED: second}, held_out.val, learnt)


def choose_network(
    ends: Ends, data: StagedData, recipe: Recipe, objective: Objective
) -> StagedModel:
    """Judge the points of the lines on val and debug_val, and choose one."""
    if objective == "fixed":
        return _by_alpha(ends, data, recipe)
    judged = []
    for shares in points():
        network = ends.at(shares, recipe)
        of_val, of_debug_val = (answers(network, of, recipe) for of in (ends.val, data.debug_val))
        judged.append(candidate(shares, of_val, of_debug_val))
    choice = choose_point(judged, objective)
    chosen = judged[choice.index]
    line = line_of(chosen.shares)
    on_line = [
        (model.shares, {"val": model.val.mean(), "debug_val": model.failures.mean()})
        for model in judged
        if model.shares.keys() <= set(line)
    ]
    curve = _curve(on_line, line, ends, data, recipe)
    network = ends.at(chosen.shares, recipe)
    return StagedModel(network, chosen.shares.get(line[1], 0.0), line, curve, choice.reason)


def _by_alpha(ends: Ends, data: StagedData, recipe: Recipe) -> StagedModel:
    """Take the point of the last line that `ensemble_alpha` says, or chooses."""
    line, alpha, curve = LINES[-1], recipe.config.ensemble_alpha, ()
    if alpha == "choose":
        first, second = (ends.networks[end] for end in line)
        judges = judges_of({"val": ends.val, "debug_val": data.debug_val, **data.shown}, recipe)
        curve = interpolation_curve(first, second, batchnorm_of(ends.learnt, recipe), judges)
        alpha = choose(curve, "val", "debug_val").alpha
    alpha = 1.0 if alpha is None else alpha
    return StagedModel(ends.at(_shares(line, alpha), recipe), alpha, line, curve, "")


def answers(network: nn.Module, data: LabelledImages, recipe: Recipe) -> Answers:
    """Ask a network; an image whose label is none of the classes is never right."""
    place = {label: i for i, label in enumerate(recipe.classes)}
    logits = logits_of_images(network, data.images, len(recipe.classes), recipe.preprocess)
    return Answers(logits, np.array([place.get(label, UNKNOWN) for label in data.labels]))


def candidate(shares: Mapping[str, float], val: Answers, debug_val: Answers) -> Candidate:
    """Put a network on its line, by what it says of images that it did not learn."""
    line = line_of(shares)
    return Candidate.judged(shares, val, debug_val, " to ".join(line), shares.get(line[1], 0.0))


def choose_point(judged: Sequence[Candidate], objective: Objective) -> Choice:
    """Choose among the networks of `points`, judged in their order."""
    return choose_model(judged, (NONE, WHOLE_POOL), objective, "debug_val", built_on=WHOLE_POOL)


def points() -> list[dict[str, float]]:
    """The shares of every network that is judged: the ends alone, then what lies between them."""
    between = [_shares(line, alpha) for line in LINES for alpha in ALPHAS if 0 < alpha < 1]
    return [{end: 1.0} for end in (NONE, WHOLE_POOL, TARGETED)] + between


def line_of(shares: Mapping[str, float]) -> tuple[str, str]:
    """The ends of the line that a network lies on; of two lines the last one."""
    used = {end for end, share in shares.items() if share}
    return next(line for line in reversed(LINES) if used <= set(line))


def pool_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the first stage."""
    stage = recipe.config.stage
    assert stage is not None
    settings = stage.model_dump(include={"epochs", "learning_rate"}, exclude_none=True)
    return replace(recipe, config=recipe.config.model_copy(update=settings))


def second_stage(
    train: LabelledImages, aimed: LabelledImages, config: TrainingConfig
) -> LabelledImages:
    """Put train and what is aimed at the failures together, whose share of the loss is limited."""
    assert config.stage is not None
    assert aimed.weight is not None
    share = config.stage.max_targeted_share
    most = len(train) * share / (1 - share)
    scale = min(1.0, most / float(config.debug_train_weight * aimed.weight.sum(dtype=float)))
    return together(train, replace(aimed, weight=scale * aimed.weight), config)


def _shares(line: tuple[str, str], alpha: float) -> dict[str, float]:
    first, second = line
    return {first: round(1 - alpha, 2), second: alpha}


def _curve(
    on_line: list[tuple[Mapping[str, float], dict[str, float]]],
    line: tuple[str, str],
    ends: Ends,
    data: StagedData,
    recipe: Recipe,
) -> tuple[CurvePoint, ...]:
    """The judged points of a line, with what they do on the images that are shown."""
    found = []
    for shares, accuracy in on_line:
        shown = {}
        if data.shown:
            network = ends.at(shares, recipe)
            shown = {split: right(network, of, recipe).mean() for split, of in data.shown.items()}
        rounded = {split: float(share) for split, share in (accuracy | shown).items()}
        found.append(CurvePoint(shares.get(line[1], 0.0), rounded))
    return tuple(sorted(found, key=lambda point: point.alpha))
