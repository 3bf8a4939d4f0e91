"""The configuration of a comparison: a grid of encoders, strategies and k over one run."""

from typing import Annotated

from pydantic import Field, model_validator

from dcd.config.base import NAME_PATTERN, FrozenModel
from dcd.config.encoder import EncoderConfig
from dcd.config.run import BASELINES, Baseline, CompareConfig, RunConfig
from dcd.config.selection import SelectionConfig

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ComparisonConfig(FrozenModel):
    """One `compare` run. Every arm trains the model of `base`; encoders only search."""

    name: str = Field(default="comparison", pattern=NAME_PATTERN, description="Prefix of its id.")
    base: RunConfig = Field(
        description="The run: data, model, training and seeds; in YAML also the path of its config."
    )
    baselines: tuple[Baseline, ...] = Field(default=BASELINES, description="Baselines to run.")
    encoders: dict[Name, EncoderConfig] = Field(
        min_length=1, description="Encoders to search with, by name; model pixels: no network."
    )
    strategies: dict[Name, SelectionConfig] = Field(
        default={"selection": SelectionConfig()},
        description="Selections to run with every encoder and every k, by name.",
    )
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(10, 20, 50), min_length=1, description="Nearest images per failure."
    )
    reference: str = Field(
        default="none", description="Method that every other one is tested against."
    )

    @model_validator(mode="after")
    def _reference_is_run(self) -> "ComparisonConfig":
        known = ["none", *self.baselines, "selected", *self.base.compare.selections]
        known += [self.arm(e, s, k) for e in self.encoders for s in self.strategies for k in self.k]
        if self.reference not in known:
            raise ValueError(f"reference: {self.reference!r} is not compared; one of {known}")
        return self

    @model_validator(mode="after")
    def _lpips_has_enough_candidates(self) -> "ComparisonConfig":
        for name, strategy in self.strategies.items():
            widest = strategy.model_copy(update={"k": max(self.k)})
            if widest.lpips_fault:
                raise ValueError(f"strategies.{name}.{widest.lpips_fault}")
        return self

    def arm(self, encoder: str, strategy: str, k: int) -> str:
        """Name a cell of the grid in tables."""
        return f"{encoder}_{strategy}_k{k}"

    def selections(self) -> dict[str, SelectionConfig]:
        """Return all selections by their place in the config, those of the base run included."""
        strategies = {f"strategies.{name}": s for name, s in self.strategies.items()}
        return self.base.selections() | strategies

    def run(self) -> RunConfig:
        """Return the base run with the baselines of the comparison."""
        compare = self.base.compare.model_copy(update={"baselines": self.baselines})
        return self.base.model_copy(update={"compare": compare})

    def searching(self, encoder: str, strategy: str, k: int) -> RunConfig:
        """Return the run of one cell of the grid: its selection has the arm's name."""
        selection = self.strategies[strategy].model_copy(update={"k": k})
        compare = CompareConfig(
            baselines=(), selections={self.arm(encoder, strategy, k): selection}
        )
        return self.base.model_copy(update={"compare": compare, "encoder": self.encoders[encoder]})
