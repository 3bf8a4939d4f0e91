"""The data sections of a config: where images and labels are, and the names of the splits."""

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from dcd.config.base import NAME_PATTERN, FrozenModel, Uri

Split = Literal["train", "test", "error_sample", "debug_val", "debug_heldout", "not_like_this"]
SPLITS: tuple[Split, ...] = get_args(Split)
_TAKEN_NAMES = ("failures",)  # of the registered failures
DEFAULT_MIN_POSTERIOR = 0.9
UNJUDGED_SPLITS: tuple[Split, ...] = ("train", "not_like_this")  # no accuracy is measured on them


class DataConfig(FrozenModel):
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
        min_length=1,
        description="Label column; default: label in a table, weak_label beside the images.",
    )
    where: str | None = Field(
        default=None,
        min_length=1,
        description="SQL predicate over the labels table: the rows that belong to this set.",
    )
    group_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the labels table that says which images belong together (frames of "
        "a burst, crops of a picture): in intervals and at the gate they count as such. Default: "
        "near copies belong together. Looked at of test, debug_val and debug_heldout.",
    )
    id_column: str = Field(
        default="image_id", min_length=1, description="Column of image ids in Parquet images."
    )
    image_column: str = Field(
        default="image", min_length=1, description="Column of image bytes in Parquet images."
    )
    licence: str | None = Field(
        default=None, description="Licence of the images, for the lineage card; changes nothing."
    )

    @model_validator(mode="after")
    def _groups_are_in_a_table(self) -> Self:
        if self.group_column is not None and self.labels is None:
            raise ValueError(
                "group_column: is a column of the labels table, and no `labels` are given; name "
                "that table, or remove group_column"
            )
        return self

    def at_seed(self, seed: int) -> Self:
        """Return this data set for one seed: `{seed}` filled in wherever it stands."""
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
        pattern=NAME_PATTERN,
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
    unlabelled: Literal["left_out", "posterior"] = Field(
        default="left_out",
        # Left out of what is written where it says nothing, so a run without it keeps its id.
        exclude_if=lambda how: how == "left_out",
        description="What becomes of images without a label. left_out: they are embedded, but "
        "never selected. posterior: each gets the class that it most probably is, by a classifier "
        "of train and its neighbours in the pool, where that is sure enough (`min_posterior`).",
    )
    min_posterior: float = Field(
        default=DEFAULT_MIN_POSTERIOR,
        ge=0.5,
        le=1,
        exclude_if=lambda least: least == DEFAULT_MIN_POSTERIOR,
        description="unlabelled: posterior: the least probability at which an image is labelled.",
    )

    @model_validator(mode="after")
    def _judges_nothing(self) -> Self:
        if self.group_column is not None:
            raise ValueError(
                "group_column: is for images that judge a model, and the pool's do not; remove it"
            )
        return self

    @model_validator(mode="after")
    def _threshold_is_used(self) -> Self:
        if self.unlabelled == "left_out" and self.min_posterior != DEFAULT_MIN_POSTERIOR:
            raise ValueError(
                "min_posterior: says when an image without a label gets one; set unlabelled: "
                "posterior, or remove it"
            )
        return self

    def check_name(self) -> None:
        """Raise ValueError if the pool has the name of the registered failures."""
        if self.name is not None and self.name.casefold() in _TAKEN_NAMES:
            raise ValueError(
                f"pool.name: {self.name} is the name of dcd's own image source; give the pool "
                "another one"
            )

    @property
    def title(self) -> str:
        """The pool as people see it: its name, else the end of `images`."""
        return self.name or "/".join(self.images.split("/")[-2:])
