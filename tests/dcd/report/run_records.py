"""Run records with figures set by hand: how many images each method gets right on each split."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from PIL import Image

from dcd.config import RunConfig, parse_config
from dcd.evaluation.metrics import metrics_table
from dcd.evaluation.summary import MethodSummary, summary_rows
from dcd.report.record import Lineage, RunRecord, StageCount
from dcd.report.thumbnails import Picture
from dcd.tables import schemas

HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


@dataclass(frozen=True)
class Right:
    """Images of 100 that a method gets right on debug_heldout, and of 100 on test."""

    debug_heldout: int
    test: int


def predictions(
    methods: Mapping[str, Right],
    seeds: Sequence[int] = (0, 1),
    labels: Sequence[str] = ("cat", "dog"),
    with_modes: bool = True,
) -> pa.Table:
    """The first images of a split are the right ones; labels and modes alternate over them."""
    rows = []
    for method, right in methods.items():
        for seed in seeds:
            for split, n_right in (("debug_heldout", right.debug_heldout), ("test", right.test)):
                for i in range(100):
                    label = labels[i % len(labels)]
                    rows.append(
                        {
                            "model": method,
                            "seed": seed,
                            "split": split,
                            "image_id": f"{split}-{i:03d}",
                            "label": label,
                            "predicted": label if i < n_right else "another",
                            "confidence": 0.5,
                            "mode": f"m{i % len(labels)}"
                            if with_modes and split == "debug_heldout"
                            else None,
                        }
                    )
    return pa.Table.from_pylist(rows, schemas.PREDICTIONS)


def neighbors(failures: pa.Table, n_picks: int) -> pa.Table:
    """`n_picks` neighbours for each failure; every fifth is rejected."""
    rows = [
        {
            "error_image_id": failure["image_id"],
            "image_id": f"pool-{n:03d}-{rank:03d}",
            "label": failure["label"],
            "distance": 10.0 + rank,
            "rank": rank,
            "label_agreement": 0.5,
            "kept": rank % 5 != 0,
            "reason": None if rank % 5 else "in train",
        }
        for n, failure in enumerate(failures.to_pylist())
        for rank in range(1, n_picks + 1)
    ]
    return pa.Table.from_pylist(rows, schemas.NEIGHBORS)


def record(
    methods: Mapping[str, Right] | None = None,
    *,
    seeds: Sequence[int] = (0, 1),
    labels: Sequence[str] = ("cat", "dog"),
    n_failures: int = 6,
    n_picks: int = 7,
    rejects: Sequence[tuple[str, str, str, str]] = (),
    found: pa.Table | None = None,
) -> RunRecord:
    """A record of `methods`; rejects are (shard, image_id, stage, reason). `found` replaces the
    predictions.
    """
    methods = methods or {"none": Right(40, 80), "random": Right(45, 70), "selected": Right(75, 80)}
    table = predictions(methods, seeds, labels) if found is None else found
    failures = pa.Table.from_pylist(
        [
            {
                "image_id": f"failure-{i:03d}",
                "label": labels[i % len(labels)],
                "predicted": "another",
                "mode": f"m{i % len(labels)}",
            }
            for i in range(n_failures)
        ],
        schemas.ERROR_SAMPLE,
    )
    columns = ("shard", "image_id", "stage", "reason")
    return RunRecord(
        run_id="toy-0123456789ab",
        created=datetime(2026, 11, 24, 3, 5, tzinfo=UTC),
        config=config(seeds),
        metrics=metrics_table(table, n_picks=12, label_precision=0.75),
        predictions=table,
        error_sample=failures,
        neighbors=neighbors(failures, n_picks),
        rejects=pa.table(
            {
                name: pa.array([row[i] for row in rejects], pa.string())
                for i, name in enumerate(columns)
            }
        ),
        lineage=Lineage(
            "toy",
            "abc123",
            5000,
            3,
            "toy_net-0a1b2c3d",
            "f00d",
            "0.1.0",
            "about 62 % right, as estimated from train",
        ),
        stages=(StageCount("embed toy", 5000, "images", 12.5), StageCount("train", 6, "models")),
    )


def hostile() -> RunRecord:
    """A record whose every free text tries to become markup."""
    methods = {"none": Right(40, 80), "random": Right(30, 70), "selected": Right(75, 60)}
    made = record(methods, labels=(HOSTILE, "dog"), rejects=[(HOSTILE, HOSTILE, HOSTILE, HOSTILE)])
    everywhere = pa.array([HOSTILE] * made.neighbors.num_rows)
    at = made.neighbors.column_names.index("reason")
    return replace(
        made,
        neighbors=made.neighbors.set_column(at, "reason", everywhere),
        lineage=replace(made.lineage, pool=HOSTILE, encoder_id=HOSTILE),
        config=made.config.model_copy(update={"store": HOSTILE}),
    )


def config(seeds: Sequence[int]) -> RunConfig:
    splits = ("train", "test", "error_sample", "debug_heldout")
    document: dict[str, object] = {split: {"images": f"{split}/*.tar"} for split in splits}
    document |= {"store": "store", "pool": {"images": "pool/*.tar"}, "seeds": list(seeds)}
    return parse_config(document, "toy.yaml")


def noise(side_px: int, broken: Collection[str] = ()) -> Callable[..., dict]:
    """An `image_bytes` for `render`: noise, the worst case for size; `broken` ids do not decode."""

    def image_bytes(uses: Collection[Picture] | Collection[str]) -> dict:
        ids = {use: use.image_id if isinstance(use, Picture) else use for use in uses}
        return {u: b"not an image" if i in broken else png(i, side_px) for u, i in ids.items()}

    return image_bytes


def png(name: str, side_px: int) -> bytes:
    rng = np.random.default_rng(list(name.encode()))
    sink = io.BytesIO()
    pixels = rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(sink, "PNG", compress_level=0)
    return sink.getvalue()


def rows_of(made: RunRecord) -> tuple[MethodSummary, ...]:
    """The rows of its summary."""
    return summary_rows(made.predictions, made.metrics)
