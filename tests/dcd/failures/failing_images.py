"""Failing images in an inbox, and a case that they belong to."""

from pathlib import Path

import numpy as np

from dcd.config import RunConfig, load_config
from dcd.store import keys
from tests.case import png, write_case


def write_failures(
    folder: Path, n_per_label: int, seed: int, labels: tuple[str, ...] = ("red", "green", "blue")
) -> list[Path]:
    """New dark pictures, as class folders below `folder`."""
    rng = np.random.default_rng(1000 + seed)
    written = []
    for label in labels:
        for i in range(n_per_label):
            path = folder / label / f"{seed}-{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(rng, label, dark=True))
            written.append(path)
    return written


def case_with_registry(folder: Path, **overrides: object) -> RunConfig:
    """The tiny case at one seed, its error sample joined by the registry."""
    return load_config(write_case(folder, seeds=(0,), failures=True, **overrides))


def inbox(config: RunConfig) -> Path:
    return Path(config.store) / keys.FAILURES_INBOX
