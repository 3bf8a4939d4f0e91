"""A tiny whole case: tinted noise in three colours, with a failure mode that train never saw."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

LABELS = ("red", "green", "blue")
N_SHARDS = 3
_POOL_PER_LABEL = 24


def png(rng: np.random.Generator, label: str, dark: bool) -> bytes:
    """A 16 x 16 picture: noise with its label's channel raised; a dark one is a failure mode."""
    pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
    pixels[..., LABELS.index(label)] += 40 if dark else 150
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def write_case(folder: Path, seeds: tuple[int, ...] = (0, 1), **overrides: object) -> Path:
    """Write images, labels and config.yaml below `folder`; `overrides` replace config sections."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    pool = [(label, dark) for label in LABELS for dark in (False, True)] * (_POOL_PER_LABEL // 2)
    weak = [LABELS[(LABELS.index(label) + (i % 4 == 0)) % 3] for i, (label, _) in enumerate(pool)]
    ids = [f"p{i:03d}" for i in range(len(pool))]
    images = [png(rng, label, dark) for label, dark in pool]
    for shard in range(N_SHARDS):
        part = slice(shard * len(ids) // N_SHARDS, (shard + 1) * len(ids) // N_SHARDS)
        table = {"image_id": ids[part], "image": images[part], "weak_label": weak[part]}
        pq.write_table(pa.table(table), folder / f"pool-{shard}.parquet")
    truth = pa.table({"image_id": ids, "label": [label for label, _ in pool]})
    pq.write_table(truth, folder / "truth.parquet")

    roles = [("train", 12, False), ("test", 8, False)]
    roles += [("error_sample", 3, True), ("debug_val", 3, True), ("debug_heldout", 6, True)]
    own, rows = [], []
    for role, n_per_label, dark in roles:
        for label in LABELS:
            for i in range(n_per_label):
                own.append({"image_id": f"{role}-{label}-{i}", "image": png(rng, label, dark)})
                mode = f"dark {label}" if dark else None
                rows.append(
                    {"image_id": own[-1]["image_id"], "role": role, "label": label, "mode": mode}
                )
    pq.write_table(pa.Table.from_pylist(own), folder / "own.parquet")
    for seed in seeds:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"seed{seed}.parquet")

    document: dict[str, object] = {
        "name": "tiny",
        "store": str(folder / "store"),
        "pool": {
            "name": "colours",
            "images": str(folder / "pool-*.parquet"),
            "true_labels": str(folder / "truth.parquet"),
        },
        **{
            role: {
                "images": str(folder / "own.parquet"),
                "labels": str(folder / "seed{seed}.parquet"),
                "where": f"role = '{role}'",
            }
            for role, _, _ in roles
        },
        "encoder": {"model": "test_resnet", "weights": "random", "input_size": 32},
        # With so few images no label can be trusted; all are.
        "selection": {"k": 2, "min_agreement": 0, "general_min_trust": 0, "general_images": 12}
        | {"leak_distance": 0},
        "seeds": list(seeds),
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**document, **overrides}, sort_keys=False))
    return config
