"""The encoder's section of a config: which network, weights, size and precision."""

from typing import Literal

from pydantic import Field

from dcd.config.base import FrozenModel, Uri


class EncoderConfig(FrozenModel):
    """The network whose penultimate layer measures likeness, and that is retrained."""

    model: str = Field(default="tf_efficientnet_lite0", description="Any timm model name.")
    weights: Literal["auto", "bundled", "pretrained", "random"] = Field(
        default="auto",
        description="bundled: from an installed package; pretrained: timm's hub; random: "
        "untrained. auto: bundled where it exists, else pretrained.",
    )
    checkpoint: Uri | None = Field(
        default=None,
        description="Weights file of any trainer (.safetensors, .pt, .pth.tar, .ckpt, .bin, …) or "
        "a folder with one; goes before `weights`.",
    )
    input_size: int | None = Field(
        default=None, ge=16, le=2048, description="Pixels a side; default: the size of the weights."
    )
    crop_pct: float | None = Field(
        default=None, gt=0, le=1, description="Centre-crop share; default: that of the weights."
    )
    precision: Literal["auto", "fp32", "mixed", "bf16", "int8"] = Field(
        default="auto",
        description="auto: the fastest that keeps the embeddings, by a measurement at loading. "
        "mixed: fp32 in the early layers, bf16 in the others (openvino). int8: calibrated on the "
        "pool's own images (openvino, extra int8).",
    )
    calibration: Uri | None = Field(
        default=None,
        # Left out of what is written where there is none, so that other encoders keep their ids.
        exclude_if=lambda calibration: calibration is None,
        description="Where int8 graphs lie: STORE/calibrations/POOL; default: those of the store "
        "and its pool.",
    )
    backend: Literal["auto", "openvino", "torch"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | None = Field(
        default=None, ge=1, description="Default: from the memory at hand."
    )
