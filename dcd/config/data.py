"""The data sections of a config: where images and labels are, and the names of the splits."""

from typing import Literal, Self, get_args

from pydantic import Field

from dcd.config.base import NAME_PATTERN, FrozenModel, Uri

Split = Literal["train", "test", "error_sample", "debug_val", "debug_heldout", "not_like_this"]
SPLITS: tuple[Split, ...] = get_args(Split)
_TAKEN_NAMES = ("failures",)  # of the registered failures
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
