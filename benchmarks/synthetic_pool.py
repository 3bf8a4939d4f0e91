"""A synthetic embedded pool in the layout of the store: labels are clusters, many labels wrong."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.sources.records import Shard
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import vector_lists

POOL, ENCODER = "synthetic", "synthetic-encoder"
_SHARD_ROWS = 50_000
_WRONG_SHARE = 0.4  # of weak labels, as in pools collected by search queries
_SPREAD = 0.25  # of the class centres, against unit noise: classes overlap


@dataclass(frozen=True)
class PoolSize:
    """rows images in `labels` equally frequent labels, vectors of `dim` numbers."""

    rows: int
    labels: int
    dim: int

    @property
    def name(self) -> str:
        return f"{POOL}-{self.rows}x{self.dim}-{self.labels}"


def make_shards(store: Store, size: PoolSize) -> list[str]:
    """Publish the embedded shards of the pool, unless they are there; their names."""
    names = []
    for number, start in enumerate(range(0, size.rows, _SHARD_ROWS)):
        name = f"shard-{number:05d}"
        n_rows = min(_SHARD_ROWS, size.rows - start)
        names.append(name)
        if store.exists(keys.embeddings(size.name, ENCODER, name)):
            continue
        # Here, for it brings torch, whose memory is no part of what is measured.
        from dcd.embeddings.embed import EmbeddedShard, ShardStats, publish

        shard = Shard(name, f"synthetic://{name}", "webdataset", n_rows, "1")
        table = _rows(size, start, n_rows)
        stats = ShardStats(name, n_rows, n_rows, 0)
        embedded = EmbeddedShard(table, schemas.REJECTS.empty_table(), stats)
        publish(store, size.name, ENCODER, shard, embedded)
    return names


def make_failures(size: PoolSize, n_failures: int, n_labels: int) -> pa.Table:
    """schemas.labelled_features: images of the first labels, spread over the label list."""
    rng = np.random.default_rng([1, size.rows, size.labels, size.dim])
    classes = np.linspace(0, size.labels - 1, n_labels).astype(int)
    classes = np.resize(classes, n_failures)
    vectors = _centres(size)[classes] + rng.standard_normal(
        (n_failures, size.dim), dtype=np.float32
    )
    schema = schemas.labelled_features(size.dim)
    columns = [
        pa.array([f"failure-{n:05d}" for n in range(n_failures)]),
        pa.array([_label(c) for c in classes]),
        pa.nulls(n_failures, pa.string()),
        pa.array([rng.bytes(16) for _ in range(n_failures)], schemas.CONTENT_HASH),
        _column(vectors, schema),
    ]
    return pa.table(columns, schema=schema)


def _rows(size: PoolSize, start: int, n_rows: int) -> pa.Table:
    rng = np.random.default_rng([0, size.rows, size.labels, size.dim, start])
    classes = rng.integers(0, size.labels, n_rows)
    wrong = rng.random(n_rows) < _WRONG_SHARE
    weak = np.where(wrong, rng.integers(0, size.labels, n_rows), classes)
    vectors = rng.standard_normal((n_rows, size.dim), dtype=np.float32)
    vectors += _centres(size)[classes]
    schema = schemas.embeddings(size.dim)
    columns = [
        pa.array([f"image-{start + n:09d}" for n in range(n_rows)]),
        pa.array([_label(c) for c in weak]),
        pa.FixedSizeBinaryArray.from_buffers(
            schemas.CONTENT_HASH, n_rows, [None, pa.py_buffer(rng.bytes(16 * n_rows))]
        ),
        _column(vectors, schema),
    ]
    table = pa.table(columns, schema=schema)
    return table.sort_by([("weak_label", "ascending"), ("image_id", "ascending")])


def _centres(size: PoolSize) -> np.ndarray:
    rng = np.random.default_rng([2, size.labels, size.dim])
    return _SPREAD * rng.standard_normal((size.labels, size.dim), dtype=np.float32)


def _label(number: int) -> str:
    return f"label-{number:05d}"


def _column(vectors: np.ndarray, schema: pa.Schema) -> pa.FixedSizeListArray:
    return vector_lists(vectors.astype(np.float16), schema.field("embedding").type)
