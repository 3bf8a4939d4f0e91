"""The configuration of a training: what is retrained, from where, and how."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dcd.config.base import FrozenModel, Uri

DEFAULT_GCE_Q = 0.7  # of Zhang & Sabuncu
AUTO_VAL_SHARE = 0.1
DEFAULT_SOFT_SHARES = {"none": 0.0, "agreement": 0.5, "bootstrap": 0.05}  # the last of Reed et al.


class StartConfig(FrozenModel):
    """The user's own model, from which full training starts. Classes are carried over by name."""

    model: Uri = Field(
        description="Folder with config.json (naming label_names) and model.safetensors, as timm "
        "and dcd save models; or a weights file of any trainer (.safetensors, .pt, .pth, .pth.tar, "
        ".ckpt, .bin)."
    )
    architecture: str | None = Field(
        default=None, description="timm name of the model; needed for a weights file."
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="Classes in the order of the outputs; needed for a weights file."
    )
    input_size: int | None = Field(
        default=None, ge=16, le=2048, description="Pixels a side; default: the model's own."
    )


class PoolStageConfig(FrozenModel):
    """full: the first of two stages, which learns the pool as a whole; the second the picks.

    It starts from a classifier fitted to the features of both train and pool (linear probing before
    fine-tuning: Kumar et al. 2022), and learns train and all pool images of the selection, each
    weighing alike. The second stage goes on from there with train, the targeted picks and the error
    sample, by the settings of `training`. The model is chosen on the line between both ends.
    """

    epochs: int | None = Field(
        default=None,
        ge=1,
        description="Passes over train and the pool's images; null: those of training.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate (AdamW); null: that of training."
    )
    max_targeted_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Most of the second stage's loss that picks and error sample have together; "
        "the rest is that of train.",
    )


class TrainingConfig(FrozenModel):
    """How the model is retrained on train + picks."""

    mode: Literal["head", "full"] = Field(
        default="head",
        description="head: the classifier on cached features; full: the whole network.",
    )
    start: StartConfig | None = Field(
        default=None,
        description="full: the model to start from; default: the encoder with a classifier fitted "
        "to train.",
    )
    pool_stage: PoolStageConfig | Literal["auto"] | None = Field(
        default="auto",
        # Left out of what is written where nothing is asked for, so ids stay what they were before
        # there were stages.
        exclude_if=lambda stage: stage == "auto",
        description="full: a selection with a general sample is learnt in two stages, first the "
        "pool as a whole; null: all at once. auto: in two where debug_val can judge them and "
        "selection.objective is not fixed.",
    )
    l2: float = Field(default=0.03, gt=0, description="head: l2 penalty on standardised features.")
    debug_train_weight: float = Field(
        default=1.0, gt=0, description="Weight of an added image in the loss; a train image has 1."
    )
    class_weighting: Literal["none", "balanced"] = Field(
        default="none", description="balanced: every class has the same total weight in the loss."
    )
    loss: Literal["forward", "cross_entropy", "gce"] = Field(
        default="forward",
        description="Of pool images. forward: corrected by how the pool's labels are estimated to "
        "be wrong (Patrini et al. 2017); cross_entropy: their labels are taken for true; "
        "gce: generalised cross-entropy, (1 - p^q)/q of the label's probability p: "
        "labels that the model finds unlikely pull less (Zhang & Sabuncu 2018).",
    )
    gce_q: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="gce: near 0 it is cross-entropy, at 1 the mean absolute error; default: "
        f"{DEFAULT_GCE_Q}.",
    )
    drop_high_loss: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the added pool images, those with the highest loss, that are left "
        "out. head: by a first fit; full: of every batch, from the second epoch on.",
    )
    soft_labels: Literal["none", "agreement", "bootstrap"] = Field(
        default="none",
        description="What added pool images are taken for. agreement: their label mixed with those "
        "of their 20 nearest pool images; bootstrap: with the model's own prediction.",
    )
    soft_label_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="soft_labels: the share that is not the label itself; default: "
        f"{DEFAULT_SOFT_SHARES['agreement']} for agreement, {DEFAULT_SOFT_SHARES['bootstrap']} for "
        "bootstrap.",
    )
    val_share: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="full: share of train held out to choose the epoch and the ensemble. What "
        f"pool_stage: auto has learnt in two stages holds out {AUTO_VAL_SHARE} where it is 0.",
    )
    epochs: int = Field(default=5, ge=1, description="full: passes over the training images.")
    batch_size: int = Field(default=64, ge=2, description="full: images a step.")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="full: peak learning rate (AdamW)."
    )
    weight_decay: float = Field(default=0.02, ge=0, description="full: AdamW weight decay.")
    warmup_share: float = Field(
        default=0.1, ge=0, lt=1, description="full: share of the steps with a rising learning rate."
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="full: learning rate of a layer over that of the next."
    )
    max_grad_norm: float | None = Field(
        default=1.0, gt=0, description="full: gradients are clipped to this norm; null: never."
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="full: keep a moving average of the weights, and use that; null: none. It "
        "warms up: decays of 0.99 and more are the same below 1,000 steps.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="full: stop after so many epochs without a better score on val and debug_val.",
    )
    batchnorm: Literal["frozen", "updated"] = Field(
        default="frozen",
        description="full: frozen keeps the statistics that the start has, which few images, or "
        "images of another size, would spoil; updated: those of the training images.",
    )
    augmentation: Literal["none", "crop", "crop_flip", "rand_augment"] = Field(
        default="crop_flip",
        description="full: random crops of at least 60 % of the area, mirroring, RandAugment.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="full: auto is bf16 on a GPU that has it, else fp32."
    )
    ensemble_alpha: Annotated[float, Field(gt=0, le=1)] | Literal["choose"] | None = Field(
        default=None,
        description="full: average the weights with the original's (WiSE-FT); 1 is all fine-tuned, "
        "choose: the share best on debug_val that loses nothing on val.",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every_s: float = Field(
        default=60, ge=0, description="full: seconds between checkpoints, to resume after a kill."
    )

    @model_validator(mode="after")
    def _choices_have_a_judge(self) -> Self:
        needs_val = [
            name
            for name, needed in [
                ("patience", self.patience is not None),
                ("ensemble_alpha: choose", self.ensemble_alpha == "choose"),
                ("pool_stage", isinstance(self.pool_stage, PoolStageConfig)),
            ]
            if needed and self.val_share == 0
        ]
        if needs_val:
            raise ValueError(f"{' and '.join(needs_val)} need val_share above 0, say 0.1")
        return self

    @model_validator(mode="after")
    def _stages_are_of_networks(self) -> Self:
        if isinstance(self.pool_stage, PoolStageConfig) and self.mode != "full":
            raise ValueError("pool_stage: a head is fitted at once; set mode: full, or remove it")
        return self

    @model_validator(mode="after")
    def _noise_options_fit(self) -> Self:
        if self.gce_q is not None and self.loss != "gce":
            raise ValueError("gce_q: is the q of loss: gce; set that, or remove gce_q")
        if self.soft_labels != "none" and self.loss == "forward":
            raise ValueError(
                "soft_labels: loss: forward judges labels by itself; set loss: cross_entropy or "
                "gce, or remove soft_labels"
            )
        if self.soft_label_share is not None and self.soft_labels == "none":
            raise ValueError(
                "soft_label_share: needs soft_labels: agreement or bootstrap; set that, or remove "
                "soft_label_share"
            )
        if self.drop_high_loss > 0 and self.mode == "full" and self.epochs == 1:
            raise ValueError(
                "drop_high_loss: begins with the second epoch of mode full; set epochs to 2 or more"
            )
        return self

    def at_once(self) -> Self:
        """The same settings where nothing is learnt in stages, written as before there were any."""
        return self.model_copy(update={"pool_stage": "auto"})

    def in_stages(self) -> Self:
        """The same settings where a selection can be learnt in stages, if they are wanted.

        Then `stage` is given.
        """
        if self.pool_stage is None or self.mode != "full":
            return self.at_once()
        if self.pool_stage != "auto":
            return self
        stages = {"pool_stage": PoolStageConfig(), "val_share": self.val_share or AUTO_VAL_SHARE}
        return self.model_copy(update=stages)

    def of_selection(self, general_images: int, is_fixed: bool, has_debug_val: bool) -> Self:
        """The same settings as they count for a selection: whether it is learnt in stages.

        Stages are those of a general sample. Without debug_val there are none, nor where a
        selection is asked for as it is (is_fixed), unless they are.
        """
        if not general_images or not has_debug_val:
            return self.at_once()
        if self.pool_stage == "auto" and is_fixed:
            return self.at_once()
        return self.in_stages()

    @property
    def stage(self) -> PoolStageConfig | None:
        """The first of two stages, once it is settled that there are two."""
        return None if self.pool_stage == "auto" else self.pool_stage

    @property
    def q(self) -> float:
        """q of the generalised cross-entropy; 0 is cross-entropy."""
        if self.loss != "gce":
            return 0.0
        return DEFAULT_GCE_Q if self.gce_q is None else self.gce_q

    @property
    def soft_share(self) -> float:
        """Share of a pool image's target that is not its label; 0 where labels are hard."""
        if self.soft_label_share is not None:
            return self.soft_label_share
        return DEFAULT_SOFT_SHARES[self.soft_labels]
