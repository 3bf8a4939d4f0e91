"""Configuration: frozen pydantic models, one per stage, nested per flow.

They are the flow parameters as well, so the Prefect UI draws their forms from the field
descriptions. Nothing here touches a file; `dcd.validation.run` checks what needs a look at the
data.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from dcd.config.base import NAME_PATTERN, FrozenModel, Uri
from dcd.config.data import DataConfig, PoolConfig, Split
from dcd.config.encoder import EncoderConfig
from dcd.config.gate import GateConfig
from dcd.config.goal import GoalConfig
from dcd.config.index import IndexConfig
from dcd.config.map import MapConfig
from dcd.config.selection import SelectionConfig
from dcd.config.training import TrainingConfig

ModelFree = Literal["random", "random_in_label", "whole_pool", "filtered_pool"]
ModelDriven = Literal["low_confidence", "high_loss", "uncertainty"]
Baseline = Literal["none", "error_sample", ModelFree, ModelDriven]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)  # in table order
_DEFAULT_BASELINES: tuple[Baseline, ...] = ("none", "error_sample", *get_args(ModelFree))


class CompareConfig(FrozenModel):
    """What is trained and evaluated beside the selection."""

    baselines: tuple[Baseline, ...] = Field(
        default=_DEFAULT_BASELINES, description=f"Baselines to run, of {', '.join(BASELINES)}."
    )
    draw_like: str = Field(
        default="selected",
        description="The random and model-driven baselines draw as many images as this selection "
        "picked for the failures: selected, or one of `selections`.",
    )
    whole_pool_max_images: int | None = Field(
        default=None, ge=1, description="whole_pool: a random draw of this many; default: all."
    )
    filtered_pool_min_agreement: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="filtered_pool: the least share of an image's 20 nearest pool neighbours that "
        "must carry its label. Of a large pool a sample of 100,000 images is filtered.",
    )
    uncertainty: Literal["margin", "entropy"] = Field(
        default="margin",
        description="uncertainty: images with the least margin between the failing model's two "
        "likeliest classes, or with the most entropy.",
    )
    selections: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], SelectionConfig] = Field(
        default_factory=dict, description="Further selections, by method name."
    )


class RunnerConfig(FrozenModel):
    """How many shards are worked on at once, and where."""

    kind: Literal["thread", "process", "ray", "dask"] = Field(
        default="thread", description="ray and dask need the extra of that name."
    )
    max_workers: int = Field(
        default=2, ge=1, description="Shards in flight; ray and dask: local CPUs."
    )
    address: Uri | None = Field(
        default=None, description="ray, dask: an existing cluster; default: one on this machine."
    )

    @model_validator(mode="after")
    def _address_has_a_cluster(self) -> Self:
        if self.address is not None and self.kind not in ("ray", "dask"):
            raise ValueError(f"address: a {self.kind} runner has no cluster; remove it")
        return self


class EmbedConfig(FrozenModel):
    """One `embed-pool` run."""

    store: Uri = Field(description="Folder or s3://bucket/prefix for everything derived.")
    pool: PoolConfig
    encoder: EncoderConfig = EncoderConfig()
    runner: RunnerConfig = RunnerConfig()

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        # The registered failures are embedded under their own name: they alone lie below this.
        if not self.pool.images.startswith(f"{self.store.rstrip('/')}/failures/batches/"):
            self.pool.check_name()
        return self


class BuildIndexConfig(EmbedConfig):
    """One `build-index` run: the pool is embedded where it is not yet, then indexed."""

    index: IndexConfig = IndexConfig()
    compact: bool = Field(
        default=False, description="Rewrite an index that was appended to as one whole."
    )


class RunConfig(FrozenModel):
    """One `debug-model` run: the whole loop."""

    name: str = Field(default="run", pattern=NAME_PATTERN, description="Prefix of the run id.")
    store: Uri = Field(description="Folder or s3://bucket/prefix for everything derived.")
    pool: PoolConfig
    train: DataConfig
    test: DataConfig
    error_sample: DataConfig | None = Field(
        default=None, description="May be left out where `failures` is true."
    )
    failures: bool = Field(
        default=False,
        description="Add all failures that are registered in the store to the error sample.",
    )
    debug_val: DataConfig | None = None
    not_like_this: DataConfig | None = Field(
        default=None,
        description="Images of the kind that selection should not bring: what is nearer to one of "
        "them than to any failure of its label is not picked. Labels are needed, but not used.",
    )
    debug_heldout: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    index: IndexConfig = IndexConfig()
    selection: SelectionConfig = SelectionConfig()
    training: TrainingConfig = TrainingConfig()
    compare: CompareConfig = CompareConfig()
    gate: GateConfig = GateConfig()
    goal: GoalConfig | None = Field(
        default=None,
        # Left out of what is written where there is none, so a run without it keeps its id.
        exclude_if=lambda goal: goal is None,
        description="Go on in rounds until this is reached; null: one round, as `selection` says.",
    )
    map: MapConfig = Field(
        default=MapConfig(),
        # Left out of what is written where it says nothing, so a run without it keeps its id.
        exclude_if=lambda of: of == MapConfig(),
        description="The map of embeddings in the report and in dcd serve.",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    runner: RunnerConfig = RunnerConfig()

    @model_validator(mode="after")
    def _has_failures(self) -> Self:
        if self.error_sample is None and not self.failures:
            raise ValueError(
                "error_sample: is missing; name the failing images, or take those registered in "
                "the store with failures: true"
            )
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        self.pool.check_name()
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} repeats a seed; give each once")
        asked = list(self.compare.baselines)
        if len(set(asked)) != len(asked):
            raise ValueError(f"compare.baselines: {asked} repeats a baseline; give each once")
        taken = {*BASELINES, "selected"} & set(self.compare.selections)
        if taken:
            raise ValueError(
                f"compare.selections: {sorted(taken)} are names of built-in methods; rename them"
            )
        return self

    @model_validator(mode="after")
    def _lpips_has_enough_candidates(self) -> Self:
        chosen = self.selections().items()
        faults = [f"{place}.{s.lpips_fault}" for place, s in chosen if s.lpips_fault]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _stages_have_images_and_a_judge(self) -> Self:
        if self.training.stage is None:
            return self
        if self.selection.general_images == 0:
            raise ValueError(
                "training.pool_stage: learns the general sample, and selection.general_images is "
                "0; give some, or remove pool_stage"
            )
        if self.debug_val is None:
            raise ValueError(
                "training.pool_stage: debug_val judges what lies between the stages; give that "
                "data set, or remove pool_stage"
            )
        return self

    @model_validator(mode="after")
    def _goal_has_a_judge(self) -> Self:
        if self.goal is None:
            return self
        if self.debug_val is None:
            raise ValueError("goal: is judged on debug_val; give that data set")
        if self.selection.k_candidates:
            raise ValueError(
                "selection.k_candidates: with a goal its budget says how many images are picked; "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _draw_like_is_a_selection(self) -> Self:
        known = ["selected", *self.compare.selections]
        if self.compare.draw_like not in known:
            raise ValueError(
                f"compare.draw_like: {self.compare.draw_like!r} is no selection; take one of "
                f"{known}"
            )
        return self

    def dataset(self, split: Split, seed: int) -> DataConfig | None:
        """Return the data set of a split for one seed; None where the config names none."""
        data: DataConfig | None = getattr(self, split)
        return None if data is None else data.at_seed(seed)

    def selections(self) -> dict[str, SelectionConfig]:
        """Return all selections of the run by their place in the config."""
        further = self.compare.selections.items()
        return {"selection": self.selection} | {f"compare.selections.{n}": s for n, s in further}

    def embedding(self) -> EmbedConfig:
        """Return the part of this run that embeds the pool."""
        return EmbedConfig(
            store=self.store, pool=self.pool, encoder=self.encoder, runner=self.runner
        )

    def indexing(self) -> BuildIndexConfig:
        """Return the part of this run that embeds and indexes the pool."""
        return BuildIndexConfig(**dict(self.embedding()), index=self.index)


class WatchConfig(FrozenModel):
    """One look into the inbox of a store: what is new is registered and announced."""

    run: RunConfig = Field(
        description="The `debug-model` run that the failures are for: it names the store, and the "
        "data sets that a failure must not be in."
    )
    remind_after_s: float = Field(
        default=600,
        ge=0,
        description="Failures that no finished run has covered are announced again after this "
        "long, then after twice as long, and so on up to a day.",
    )
