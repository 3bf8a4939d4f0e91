"""The map's section of a config: which points are drawn, and how they are laid out."""

from typing import Literal

from pydantic import Field

from dcd.config.base import FrozenModel

MapMethod = Literal["pca", "tsne"]


class MapConfig(FrozenModel):
    """A map of the embeddings: failures and picks among images of the pool and of train."""

    method: MapMethod = Field(
        default="pca",
        description="pca: the two directions in which the images differ most, in well under a "
        "second. tsne: what is alike lies together; it needs the extra `map`, without which pca "
        "is drawn, and takes seconds for a thousand points.",
    )
    max_images: int = Field(
        default=2_000,
        ge=0,
        le=100_000,
        description="Images of the pool and of train that are drawn, a share of every label; the "
        "first seed's failures and picks all come on top. 0: no map.",
    )
