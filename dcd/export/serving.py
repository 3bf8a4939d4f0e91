"""Export the champion for a runtime: it is put in place once it has answered real images."""

import json
import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from dcd.config import DataConfig
from dcd.errors import EncoderMismatch
from dcd.export.champion import TrustedModel, read_inputs, read_spread
from dcd.export.formats import (
    INPUT,
    OUTPUT,
    Answer,
    Format,
    open_format,
    torch_answer,
    write_format,
)
from dcd.export.int8 import CALIBRATION_IMAGES, check_int8, to_int8
from dcd.progress import live
from dcd.scratch import scratch_folder
from dcd.store.local_files import published

NOTE = "preprocessing.json"
LEAST_AGREEMENT = 0.999  # of top-1 answers
LEAST_INT8_AGREEMENT = 0.95  # below it is a broken model rather than a rounded one
_BATCHES = (1, 32)  # the first image alone, then more: the batch's size is free


@dataclass(frozen=True)
class Agreement:
    """How an exported model answers beside torch: images, equal top-1, the largest difference.

    largest_difference: between two logits of one image and class.
    """

    n_images: int
    n_equal: int
    largest_difference: float

    @property
    def share(self) -> float:
        return self.n_equal / self.n_images


def export_champion(
    trusted: TrustedModel,
    to: Format,
    folder: Path,
    images: DataConfig,
    n_images: int,
    int8: bool = False,
) -> Agreement:
    """Write the model and its note into `folder`, if it answers real images as torch does.

    images: whose pictures both are asked about, n_images at most. int8: of OpenVINO, calibrated on
    the run's train images. Raises EncoderMismatch if less than 99.9 % of the top-1 answers are
    equal, 95 % in int8; then nothing is written. ConfigError for int8 in another format.
    """
    if int8:
        check_int8(to)
    with live.stage("read images"):
        inputs = read_inputs(images, trusted.model.preprocess, n_images)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder("export", within=folder) as scratch:
        with live.stage(f"write {to}"):
            written = write_format(trusted.model, to, scratch)
        if int8:
            preprocess = trusted.model.preprocess
            with live.stage("calibrate int8"):
                calibration = read_spread(trusted.train_images, preprocess, CALIBRATION_IMAGES)
                to_int8(written, trusted.model.network, calibration)
        found = agreement(torch_answer(trusted.model), open_format(to, written), inputs)
        least = LEAST_INT8_AGREEMENT if int8 else LEAST_AGREEMENT
        if found.share < least:
            raise EncoderMismatch(
                f"{to}{' in int8' if int8 else ''}: answers {found.n_equal} of {found.n_images} "
                f"images as torch does, at least {least:.1%} expected; the largest difference of "
                f"two logits is {found.largest_difference:.3g}. "
                f"{'Export without --int8' if int8 else 'Take another format'}"
            )
        for file in sorted(scratch.iterdir()):
            os.replace(file, folder / file.name)
    note = json.dumps(_note(trusted, to, found, int8), indent=2)
    with published(str(folder / NOTE)) as file:
        file.write(f"{note}\n".encode())
    return found


def agreement(one: Answer, other: Answer, inputs: np.ndarray) -> Agreement:
    """Ask both about the inputs, (N, S, S, 3) uint8, one alone and then in batches."""
    first, rest = _BATCHES
    bounds = [0, first, *range(first + rest, len(inputs), rest), len(inputs)]
    parts = [inputs[a:b] for a, b in pairwise(bounds) if a < b]
    with live.stage("compare answers", 2 * len(parts), "batches") as stage:
        these = np.concatenate([one(part) for part in stage.each(parts)])
        those = np.concatenate([other(part) for part in stage.each(parts)])
    equal = these.argmax(axis=1) == those.argmax(axis=1)
    return Agreement(len(inputs), int(equal.sum()), float(np.abs(these - those).max()))


def _note(trusted: TrustedModel, to: Format, found: Agreement, int8: bool) -> dict[str, object]:
    """What a server has to know."""
    preprocess, champion = trusted.model.preprocess, trusted.champion
    size = preprocess.input_size
    return {
        "format": to,
        "precision": "int8" if int8 else "fp32",
        "run_id": champion.run_id,
        "seed": champion.seed,
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["N", size, size, 3],
            "channels": "RGB",
        },
        "before": {
            "resize_to": int(size / preprocess.crop_pct),
            "crop_to": size,
            "crop_mode": preprocess.crop_mode,
            "interpolation": preprocess.interpolation,
            "antialias": True,
            "upright_by_exif": True,
        },
        "inside": {"mean": preprocess.mean, "std": preprocess.std},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["N", len(trusted.model.classes)]},
        "classes": trusted.model.classes,
        "checked": asdict(found),
    }
