"""Configuration: frozen pydantic models, one per stage, nested per flow.

They are the flow parameters as well, so the Prefect UI draws their forms from the field
descriptions. Nothing here touches a file; `dcd.validate` checks what needs a look at the data.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from dcd.errors import ConfigError
from dcd.frozen import Frozen, Uri
from dcd.index_config import IndexConfig
from dcd.selection_config import SelectionConfig
from dcd.suggest import explain_fault, explain_yaml, line_numbers, repeated_keys
from dcd.training_config import TrainingConfig

Split = Literal["train", "test", "error_sample", "debug_val", "debug_heldout", "not_like_this"]
SPLITS: tuple[Split, ...] = get_args(Split)
UNJUDGED_SPLITS: tuple[Split, ...] = ("train", "not_like_this")  # no accuracy is measured on them

Baseline = Literal[
    "none",
    "error_sample",
    "random",
    "random_in_label",
    "whole_pool",
    "filtered_pool",
    "low_confidence",
    "high_loss",
    "uncertainty",
]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)  # in table order
_DEFAULT_BASELINES: tuple[Baseline, ...] = (
    "none",
    "error_sample",
    "random",
    "random_in_label",
    "whole_pool",
    "filtered_pool",
)

Parsed = TypeVar("Parsed", bound="Frozen")


class DataConfig(Frozen):
    """Where a labelled set of images is and which of its images count."""

    images: Uri = Field(
        description="URI or glob of WebDataset tars or Parquet files, or a folder of class "
        "folders. '{seed}' stands for the seed of the run."
    )
    labels: Uri | None = Field(
        default=None,
        description="Parquet or CSV table keyed by image_id; replaces the labels in `images`. "
        "'{seed}' stands for the seed of the run.",
    )
    label_column: str | None = Field(
        default=None,
        description="Label column; default: label in a table, weak_label beside the images.",
    )
    where: str | None = Field(
        default=None,
        description="SQL predicate over the labels table: the rows that belong to this set.",
    )
    id_column: str = Field(default="image_id", description="Column of image ids in Parquet images.")
    image_column: str = Field(
        default="image", description="Column of image bytes in Parquet images."
    )
    licence: str | None = Field(
        default=None, description="Licence of the images, for the lineage card; changes nothing."
    )

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
        default=None,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name in the store; default: from `images`.",
    )
    label_map: Uri | None = Field(
        default=None,
        description="Parquet or CSV table weak_label, label: what a query or tag stands for. Many "
        "to many; images whose weak label it does not name are embedded, but never selected.",
    )
    true_labels: Uri | None = Field(
        default=None,
        description="Table image_id, label with true labels, where known. Only used to report "
        "label precision; no selector sees it.",
    )

    @property
    def title(self) -> str:
        """The pool as people see it: its name, else the end of `images`."""
        return self.name or "/".join(self.images.split("/")[-2:])


class EncoderConfig(Frozen):
    """The network whose penultimate layer measures likeness, and that is retrained."""

    model: str = Field(default="tf_efficientnet_lite0", description="Any timm model name.")
    weights: Literal["auto", "bundled", "pretrained", "random"] = Field(
        default="auto",
        description="bundled: from an installed package; pretrained: timm's hub; random: "
        "untrained. auto: bundled where it exists, else pretrained.",
    )
    checkpoint: Uri | None = Field(
        default=None, description="Weights file (.safetensors, .pt, .pth); goes before `weights`."
    )
    input_size: int | None = Field(
        default=None, ge=16, le=2048, description="Pixels a side; default: the size of the weights."
    )
    crop_pct: float | None = Field(
        default=None, gt=0, le=1, description="Centre-crop share; default: that of the weights."
    )
    precision: Literal["auto", "fp32", "mixed", "bf16"] = Field(
        default="auto",
        description="auto: the fastest that keeps the embeddings, by a measurement at loading. "
        "mixed: fp32 in the early layers, bf16 in the others (openvino).",
    )
    backend: Literal["auto", "openvino", "torch"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | None = Field(
        default=None, ge=1, description="Default: from the memory at hand."
    )


class CompareConfig(Frozen):
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


class GateConfig(Frozen):
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


class RunnerConfig(Frozen):
    """How many shards are worked on at once, and where."""

    kind: Literal["thread", "process", "ray", "dask"] = Field(
        default="thread", description="ray and dask need the extra of that name."
    )
    max_workers: int = Field(
        default=2, ge=1, description="Shards in flight; ray and dask: local CPUs."
    )
    address: str | None = Field(
        default=None, description="ray, dask: an existing cluster; default: one on this machine."
    )

    @model_validator(mode="after")
    def _address_has_a_cluster(self) -> Self:
        if self.address is not None and self.kind not in ("ray", "dask"):
            raise ValueError(f"address: a {self.kind} runner has no cluster; remove it")
        return self


class EmbedConfig(Frozen):
    """One `embed-pool` run."""

    store: Uri = Field(description="Folder or s3://bucket/prefix for everything derived.")
    pool: PoolConfig
    encoder: EncoderConfig = EncoderConfig()
    runner: RunnerConfig = RunnerConfig()


class BuildIndexConfig(EmbedConfig):
    """One `build-index` run: the pool is embedded where it is not yet, then indexed."""

    index: IndexConfig = IndexConfig()
    compact: bool = Field(
        default=False, description="Rewrite an index that was appended to as one whole."
    )


class RunConfig(Frozen):
    """One `debug-model` run: the whole loop."""

    name: str = Field(
        default="run", pattern=r"^[A-Za-z0-9._-]+$", description="Prefix of the run id."
    )
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
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
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
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} repeats a seed; give each once")
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
    def _draw_like_is_a_selection(self) -> Self:
        known = ["selected", *self.compare.selections]
        if self.compare.draw_like not in known:
            raise ValueError(
                f"compare.draw_like: {self.compare.draw_like!r} is no selection; take one of "
                f"{known}"
            )
        return self

    def dataset(self, split: Split, seed: int) -> DataConfig | None:
        """The data set of a split for one seed; None where the config names none."""
        data: DataConfig | None = getattr(self, split)
        return data and data.at_seed(seed)

    def selections(self) -> dict[str, SelectionConfig]:
        """All selections of the run by their place in the config."""
        further = self.compare.selections.items()
        return {"selection": self.selection} | {f"compare.selections.{n}": s for n, s in further}

    def embedding(self) -> EmbedConfig:
        """The part of this run that embeds the pool."""
        return EmbedConfig(
            store=self.store, pool=self.pool, encoder=self.encoder, runner=self.runner
        )

    def indexing(self) -> BuildIndexConfig:
        """The part of this run that embeds and indexes the pool."""
        return BuildIndexConfig(**dict(self.embedding()), index=self.index)


def load_config(path: str | Path) -> RunConfig:
    """Read a YAML config. Raises ConfigError with one line per fault, each naming its place."""
    document, lines = _read_document(path)
    return parse_config(document, str(path), lines)


def load_embed_config(path: str | Path) -> EmbedConfig:
    """What `embed-pool` needs, from a config of its own or from that of a run.

    Raises ConfigError as `load_config` does.
    """
    return _load_part(path, EmbedConfig, RunConfig.embedding)


def load_index_config(path: str | Path) -> BuildIndexConfig:
    """What `build-index` needs, from a config of its own or from that of a run.

    Raises ConfigError as `load_config` does.
    """
    return _load_part(path, BuildIndexConfig, RunConfig.indexing)


def load_run_or_index_config(path: str | Path) -> tuple[RunConfig | None, BuildIndexConfig]:
    """The config of a run and its part that indexes, or an index or embed config without a run.

    Raises ConfigError as `load_config` does.
    """
    runs: list[RunConfig] = []

    def noted(run: RunConfig) -> BuildIndexConfig:
        runs.append(run)
        return run.indexing()

    index = _load_part(path, BuildIndexConfig, noted)
    return (runs[0] if runs else None), index


def parse_config(
    document: dict[str, object],
    origin: str,
    lines: Mapping[tuple[int | str, ...], int] | None = None,
) -> RunConfig:
    """Validate a parsed document. Raises ConfigError with one line per fault.

    `origin` heads every line, followed by the fault's line where `lines` has it.
    """
    return _parse(RunConfig, document, origin, lines)


def _read_document(path: str | Path) -> tuple[dict[str, object], dict[tuple[int | str, ...], int]]:
    """A YAML mapping, and the line on which each of its keys stands."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            [f"{path}: cannot be read ({err}); give the path of a YAML file"]
        ) from err
    try:
        document = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise ConfigError([explain_yaml(str(path), err)]) from err
    if not isinstance(document, dict):
        found = type(document).__name__
        raise ConfigError([f"{path}: expected a mapping with store, pool, train, …; found {found}"])
    if repeated := repeated_keys(root):
        raise ConfigError([f"{path}:{problem}" for problem in repeated])
    return document, line_numbers(root)


def _load_part(
    path: str | Path, model: type[Parsed], part_of: Callable[[RunConfig], Parsed]
) -> Parsed:
    """A config that has what `model` needs alone, or that part of the config of a run."""
    document, lines = _read_document(path)
    if document.keys() & (RunConfig.model_fields.keys() - model.model_fields.keys()):
        return part_of(parse_config(document, str(path), lines))
    return _parse(model, document, str(path), lines)


def _parse(
    model: type[Parsed],
    document: dict[str, object],
    origin: str,
    lines: Mapping[tuple[int | str, ...], int] | None,
) -> Parsed:
    try:
        return model.model_validate(document)
    except ValidationError as err:
        faults = err.errors(include_url=False)
        raise ConfigError(
            [explain_fault(_with_line(origin, lines, f["loc"]), f, model) for f in faults]
        ) from err


def _with_line(
    origin: str, lines: Mapping[tuple[int | str, ...], int] | None, loc: tuple[int | str, ...]
) -> str:
    """`config.yaml:12`; a missing key has the line of its section."""
    for end in range(len(loc), 0, -1):
        if lines and loc[:end] in lines:
            return f"{origin}:{lines[loc[:end]]}"
    return origin
