"""Embedded shards and failures from bare vectors, through the publishing code of the package."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from dcd.embeddings.embed import EmbeddedShard, ShardStats, publish
from dcd.index import layout, sort
from dcd.index.build import build_index
from dcd.index.info import IndexInfo
from dcd.sources.records import Shard
from dcd.store import Store
from dcd.tables import schemas

POOL, ENCODER = "pool", "toy-encoder"


def make_lists_small(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    """Give labels of more than 2,048 rows lists of about 128."""
    monkeypatch.setattr(layout, "_LIST_BYTES", 2 * dim * 128)
    monkeypatch.setattr(layout, "_TRAIN_ROWS_PER_LIST", 20)
    monkeypatch.setattr(sort, "MIN_GROUP_BYTES", 2 * dim * 64)
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * dim * 200)


def content(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def put_shard(
    store: Store,
    name: str,
    image_ids: Sequence[str],
    labels: Sequence[str | None],
    vectors: np.ndarray,
    contents: Sequence[bytes] | None = None,
    etag: str = "1",
) -> None:
    """Publish one embedded shard; vectors: (N, D). Content differs from id to id by default."""
    schema = schemas.embeddings(vectors.shape[1])
    hashes = [content(i) for i in image_ids] if contents is None else list(contents)
    columns = [
        pa.array(image_ids, pa.string()),
        pa.array(labels, pa.string()),
        pa.array(hashes, schemas.CONTENT_HASH),
        as_column(vectors),
    ]
    table = pa.table(columns, schema=schema)
    table = table.sort_by([("weak_label", "ascending"), ("image_id", "ascending")])
    stats = ShardStats(name, table.num_rows, table.num_rows, 0)
    shard = Shard(name, f"memory/{name}.tar", "webdataset", table.num_rows, etag)
    publish(store, POOL, ENCODER, shard, EmbeddedShard(table, schemas.REJECTS.empty_table(), stats))


def as_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.astype(np.float16).ravel()), type=kind
    )


def failures_table(labels: Sequence[str], vectors: np.ndarray, prefix: str = "e") -> pa.Table:
    ids = [f"{prefix}{i:03d}" for i in range(len(labels))]
    columns = [
        pa.array(ids, pa.string()),
        pa.array(labels, pa.string()),
        pa.nulls(len(ids), pa.string()),
        pa.array([content(i) for i in ids], schemas.CONTENT_HASH),
        as_column(vectors),
    ]
    return pa.table(columns, schema=schemas.labelled_features(vectors.shape[1]))


def blocked_table(reasons: dict[str, str]) -> pa.Table:
    """image_id → reason, for images whose content follows from their id."""
    return pa.table(
        {
            "content_hash": pa.array([content(i) for i in reasons], schemas.CONTENT_HASH),
            "reason": pa.array(list(reasons.values()), pa.string()),
        }
    )


def line_pool(store: Store, n: int = 6, contents: Sequence[bytes] | None = None) -> IndexInfo:
    """Images i0 … at 0, 1, 2, … on a line, label a; one image z of label b."""
    vectors = np.array([[float(x)] for x in range(n)] + [[0.0]])
    ids = [f"i{x}" for x in range(n)]
    put_shard(store, "s0", [*ids, "z"], ["a"] * n + ["b"], vectors, contents)
    return build_index(store, POOL, ENCODER, ["s0"], None)
