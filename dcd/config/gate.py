"""The gate's section of a config: when a retrained model replaces the champion."""

from typing import Annotated, Literal

from pydantic import Field

from dcd.config.base import NAME_PATTERN, FrozenModel

Judging = Literal["test", "debug_val"]


class BalancedAccuracyGuard(FrozenModel):
    """The mean of the classes' recalls must not fall by more than a margin, 95 % sure."""

    metric: Literal["balanced_accuracy"]
    split: Judging = "test"
    margin_points: float = Field(
        default=1.0, gt=0, lt=100, description="Balanced accuracy that may be lost, in points."
    )


class RecallGuard(FrozenModel):
    """No class's recall may be below a floor, as it was counted."""

    metric: Literal["class_recall"]
    split: Judging = "test"
    min_recall: float = Field(gt=0, le=1, description="The floor, as a share.")


class CommandGuard(FrozenModel):
    """A number that a command of the user's prints must not fall by more than `max_loss`.

    It runs only where the environment has DCD_GUARD_COMMANDS=allow: who may change a config need
    not be one who may run commands.
    """

    metric: Literal["command"]
    name: str = Field(pattern=NAME_PATTERN, description="What the number is, for reports.")
    split: Judging = "test"
    command: tuple[str, ...] = Field(
        min_length=1,
        description="Program and arguments, without a shell; the path of a CSV of predictions "
        "(image_id, label, predicted, confidence, mode) is added. Its last line is the number, "
        "more being better.",
    )
    max_loss: float = Field(default=0.0, ge=0, description="How much of it may be lost.")
    timeout_s: float = Field(default=60.0, gt=0, description="Seconds that it may take.")


GuardConfig = Annotated[
    BalancedAccuracyGuard | RecallGuard | CommandGuard, Field(discriminator="metric")
]


class GateConfig(FrozenModel):
    """When a retrained model replaces the champion."""

    policy: Literal["auto", "decide", "off"] = Field(
        default="auto",
        description="auto: promote what passes; decide: only say it, `dcd promote` does it; off.",
    )
    margin_points: float = Field(
        default=0.5, gt=0, lt=100, description="Test accuracy that may be lost, in points."
    )
    candidate: Literal["first_seed", "best_seed"] = Field(
        default="first_seed",
        description="first_seed: the model of the first seed, at 95 %. best_seed: the one that "
        "gains most on debug_val, at a level stricter by the number of seeds.",
    )
    guards: tuple[GuardConfig, ...] = Field(
        default=(), description="What else must not get worse; each can only hold a model back."
    )
