"""The goal's section of a config: rounds of picking and training until a figure is reached."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dcd.config.base import FrozenModel
from dcd.config.gate import CommandGuard

Metric = Literal["accuracy", "balanced_accuracy", "recall", "command"]
Sharing = Literal["nearest", "by_class"]


class GoalConfig(FrozenModel):
    """Go on in rounds until a figure on debug_val is reached, or nothing more is to be had."""

    metric: Metric = Field(
        default="accuracy",
        description="The figure on debug_val: accuracy; balanced_accuracy, the mean of the "
        "classes' recalls; recall of the class `label`; or what `command` prints.",
    )
    target: float = Field(
        description="Reached at this figure or above it, if test and the gate's guards hold. A "
        "share for the three metrics that are built in: 0.9, not 90."
    )
    label: str | None = Field(default=None, description="The class of metric recall.")
    command: tuple[str, ...] = Field(
        default=(),
        description="Of metric command: as a guard's (`gate.guards`), with the path of the "
        "predictions on debug_val added; more is better. Runs only where "
        "DCD_GUARD_COMMANDS=allow.",
    )
    timeout_s: float = Field(default=60.0, gt=0, description="Seconds that the command may take.")
    rounds: int = Field(default=5, ge=1, le=50, description="Most rounds.")
    budget: int = Field(
        ge=1,
        description="Most pool images that are picked for failures in all rounds together; the "
        "general sample does not count.",
    )
    images_per_round: int | None = Field(
        default=None, ge=1, description="Most of them in one round; null: budget / rounds."
    )
    sharing: Sharing = Field(
        default="nearest",
        description="How a round's images are shared out: nearest: every failure's nearest, then "
        "every failure's second nearest, and so on; by_class: each class gets its share of the "
        "failures that are still wrong, by largest remainder, and of that the nearest.",
    )
    patience: int = Field(
        default=2, ge=1, description="Stop after so many rounds without a gain on debug_val."
    )

    @property
    def as_guard(self) -> CommandGuard | None:
        """The command, as the gate's guards run one; None for a metric that is built in."""
        if self.metric != "command":
            return None
        return CommandGuard(
            metric="command",
            name="goal",
            split="debug_val",
            command=self.command,
            timeout_s=self.timeout_s,
        )

    @property
    def words(self) -> str:
        """What is to be reached: 'accuracy of 90.0 % on debug_val'."""
        name = {"balanced_accuracy": "balanced accuracy", "recall": f"recall of {self.label}"}
        reached = f"{100 * self.target:.1f} %" if self.metric != "command" else f"{self.target:g}"
        return f"{name.get(self.metric, self.metric)} of {reached} on debug_val"

    @model_validator(mode="after")
    def _metric_has_what_it_needs(self) -> Self:
        if (self.metric == "recall") != (self.label is not None):
            raise ValueError("label: names the class of metric recall, and of no other metric")
        if (self.metric == "command") != bool(self.command):
            raise ValueError("command: is what metric command runs, and no other metric")
        if self.metric != "command" and not 0 < self.target <= 1:
            raise ValueError(
                f"target: {self.target:g} is no share of images; give one above 0 and at most 1, "
                "such as 0.9"
            )
        if self.images_per_round is None and self.budget < self.rounds:
            raise ValueError(
                f"budget: {self.budget} images are fewer than the {self.rounds} rounds; give more, "
                "or fewer rounds"
            )
        return self
