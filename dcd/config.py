"""Configuration: frozen pydantic models, one per stage, nested per flow.

They are the flow parameters as well, so the Prefect UI draws their forms from the field
descriptions. Nothing here touches a file; `dcd.validate` checks what needs a look at the data.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dcd.errors import ConfigError

Split = Literal["train", "test", "error_sample", "debug_val", "debug_heldout"]
SPLITS: tuple[Split, ...] = ("train", "test", "error_sample", "debug_val", "debug_heldout")
EVALUATION_SPLITS: tuple[Split, ...] = ("test", "debug_val", "debug_heldout")

Baseline = Literal["none", "error_sample", "random", "random_in_label", "whole_pool"]
BASELINES: tuple[Baseline, ...] = (
    "none",
    "error_sample",
    "random",
    "random_in_label",
    "whole_pool",
)


class Frozen(BaseModel):
    """Immutable, hashable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Frozen):
    """Where a labelled set of images is and which of its images count."""

    images: str = Field(
        description="URI or glob of WebDataset tars or Parquet files, or a folder of class "
        "folders. '{seed}' stands for the seed of the run."
    )
    labels: str | None = Field(
        None,
        description="Parquet or CSV table keyed by image_id; replaces the labels in `images`. "
        "'{seed}' stands for the seed of the run.",
    )
    label_column: str | None = Field(
        None, description="Label column; default: label in a table, weak_label beside the images."
    )
    where: str | None = Field(
        None, description="SQL predicate over the labels table: the rows that belong to this set."
    )
    id_column: str = Field("image_id", description="Column of image ids in Parquet images.")
    image_column: str = Field("image", description="Column of image bytes in Parquet images.")

    def at_seed(self, seed: int) -> Self:
        """This data set for one seed: `{seed}` filled in wherever it stands."""
        filled = {
            name: value.replace("{seed}", str(seed))
            for name, value in self
            if isinstance(value, str)
        }
        return self.model_copy(update=filled)


class PoolConfig(DataConfig):
    """The huge, weakly labelled pool."""

    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="Name in the store; default: from `images`."
    )
    true_labels: str | None = Field(
        None,
        description="Table image_id, label with true labels, where known. Only used to report "
        "label precision; no selector sees it.",
    )


class EncoderConfig(Frozen):
    """The network whose penultimate layer measures likeness, and that is retrained."""

    model: str = Field("tf_efficientnet_lite0", description="Any timm model name.")
    weights: Literal["auto", "bundled", "pretrained", "random"] = Field(
        "auto",
        description="bundled: from an installed package; pretrained: timm's hub; random: "
        "untrained. auto: bundled where it exists, else pretrained.",
    )
    checkpoint: str | None = Field(
        None, description="Weights file (.safetensors, .pt, .pth); goes before `weights`."
    )
    input_size: int | None = Field(
        None, ge=16, le=2048, description="Pixels a side; default: the size of the weights."
    )
    crop_pct: float | None = Field(
        None, gt=0, le=1, description="Centre-crop share; default: that of the weights."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it."
    )
    backend: Literal["auto", "openvino", "torch"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | None = Field(None, ge=1, description="Default: from the memory at hand.")


class SelectionConfig(Frozen):
    """Which pool images to take for the failures."""

    k: int = Field(20, ge=1, description="Nearest in-label pool images per failure.")


class TrainingConfig(Frozen):
    """How the model is retrained on train + picks."""

    mode: Literal["head", "full"] = Field(
        "head", description="head: the classifier on cached features; full: the whole network."
    )
    include_error_sample: bool = Field(
        False, description="Train on the error sample too, beside the picks."
    )
    l2: float = Field(1e-3, gt=0, description="head: l2 penalty on standardised features.")
    epochs: int = Field(5, ge=1, description="full: passes over the training images.")
    batch_size: int = Field(64, ge=2, description="full: images a step.")
    learning_rate: float = Field(1e-3, gt=0, description="full: peak learning rate (AdamW).")
    weight_decay: float = Field(0.02, ge=0, description="full: AdamW weight decay.")


class CompareConfig(Frozen):
    """What is trained and evaluated beside the selection."""

    baselines: tuple[Baseline, ...] = Field(BASELINES, description="Baselines to run.")
    whole_pool_max_images: int | None = Field(
        None, ge=1, description="whole_pool: a random draw of this many; default: all."
    )
    selections: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], SelectionConfig] = Field(
        default_factory=dict, description="Further selections, by method name."
    )


class RunnerConfig(Frozen):
    """How many shards are worked on at once, and where."""

    kind: Literal["thread", "process"] = "thread"
    max_workers: int = Field(2, ge=1)


class RunConfig(Frozen):
    """One `debug-model` run: the whole loop."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9._-]+$", description="Prefix of the run id.")
    store: str = Field(description="Folder or s3://bucket/prefix for everything derived.")
    pool: PoolConfig
    train: DataConfig
    test: DataConfig
    error_sample: DataConfig
    debug_val: DataConfig | None = None
    debug_heldout: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    selection: SelectionConfig = SelectionConfig()
    training: TrainingConfig = TrainingConfig()
    compare: CompareConfig = CompareConfig()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    runner: RunnerConfig = RunnerConfig()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} repeats a seed; give each once")
        taken = {*BASELINES, "selected"} & set(self.compare.selections)
        if taken:
            raise ValueError(
                f"compare.selections: {sorted(taken)} are names of built-in methods; rename them"
            )
        return self

    def dataset(self, split: Split, seed: int) -> DataConfig | None:
        """The data set of a split for one seed; None where the config names none."""
        data: DataConfig | None = getattr(self, split)
        return data and data.at_seed(seed)


def load_config(path: str | Path) -> RunConfig:
    """Read a YAML config. Raises ConfigError with one line per fault, each naming its place."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            [f"{path}: cannot be read ({err}); give the path of a YAML file"]
        ) from err
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError([f"{path}: not valid YAML: {err}"]) from err
    if not isinstance(document, dict):
        raise ConfigError(
            [
                f"{path}: expected a mapping with store, pool, train, …; found {type(document).__name__}"
            ]
        )
    return parse_config(document, str(path))


def parse_config(document: dict[str, object], origin: str) -> RunConfig:
    """Validate a parsed document. Raises ConfigError; `origin` heads every line of it."""
    try:
        return RunConfig.model_validate(document)
    except ValidationError as err:
        raise ConfigError([_explain(origin, fault) for fault in err.errors()]) from err


def _explain(origin: str, fault: object) -> str:
    from dcd.suggest import explain_fault

    return explain_fault(origin, fault, RunConfig)
