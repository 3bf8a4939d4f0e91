"""What the pool has for a picture is found exactly, also where labels are kept in lists."""

import numpy as np
import pytest

from dcd.config import IndexConfig
from dcd.index.build import build_index
from dcd.index.search import in_label_neighbors
from dcd.neighbors import nearest
from dcd.store import Store
from tests.dcd.index.vector_pools import (
    ENCODER,
    POOL,
    blocked_table,
    failures_table,
    make_lists_small,
    put_shard,
)

DIM, N_ROWS, K = 16, 4000, 20


@pytest.fixture
def small_lists(monkeypatch):
    make_lists_small(monkeypatch, DIM)


def test_labels_with_lists_are_searched_whole(tmp_path, small_lists):
    rng = np.random.default_rng(0)
    store = Store(str(tmp_path))
    ids = [f"i{n:04d}" for n in range(N_ROWS)]
    labels = ["large"] * (N_ROWS - 100) + ["small"] * 100
    vectors = rng.standard_normal((N_ROWS, DIM)).astype(np.float16)
    put_shard(store, "s0", ids, labels, vectors)
    rough = IndexConfig(max_scan_bytes=2**16, recall_target=0.5)
    index = build_index(store, POOL, ENCODER, ["s0"], None, rough)
    assert set(index.lists) == {"large"}

    asked = rng.standard_normal((8, DIM)).astype(np.float16)
    failures = failures_table(["large"] * 8, asked)
    found = nearest(store, index, failures.drop_columns(["label", "mode"]), ["large", "small"], K)

    distance = np.linalg.norm(asked[:, None].astype(float) - vectors.astype(float), axis=2)
    order = np.argsort(distance, axis=1, kind="stable")[:, :K]
    assert found["image_id"].to_pylist() == [ids[i] for row in order for i in row]
    assert found["rank"].to_pylist() == [*range(1, K + 1)] * 8

    probed = in_label_neighbors(store, index, failures, blocked_table({}), K)
    missed = set(found["image_id"].to_pylist()) - set(probed["image_id"].to_pylist())
    assert any(labels[ids.index(i)] == "large" for i in missed), "the lists miss nothing here"
