"""The configuration of LPIPS as the distance that orders a failure's candidates."""

from pydantic import Field

from dcd.frozen import Frozen, Uri


class LpipsConfig(Frozen):
    """The candidates that the encoder found for a failure are put in the order of LPIPS.

    Every candidate's bytes are read again and go through AlexNet: for small pools.
    """

    backbone: Uri = Field(
        description="File with the weights of torchvision's alexnet (.pth, .pt or .safetensors): "
        "no package ships them."
    )
    channel_weights: Uri | None = Field(
        default=None,
        description="The authors' channel weights for AlexNet (lin0 … lin4); null: all weigh 1.",
    )
    candidates: int = Field(
        default=100,
        ge=1,
        description="Nearest in-label images by the encoder, for each failure, that LPIPS orders; "
        "at least k (3 k with diversity).",
    )
    max_comparisons: int = Field(
        default=20_000,
        ge=1,
        description="Most pairs of failure and candidate; a selection that needs more is refused.",
    )
