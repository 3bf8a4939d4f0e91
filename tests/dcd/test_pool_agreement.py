import numpy as np
import pytest

from dcd import keys
from dcd.indexing import build_index
from dcd.pool_agreement import pool_agreement
from dcd.store import Store
from tests.dcd.vector_pools import ENCODER, POOL, put_shard


def test_a_wrong_label_has_no_company_and_the_table_is_made_once(tmp_path):
    rng = np.random.default_rng(0)
    store = Store(str(tmp_path))
    centres = np.repeat(np.eye(4)[:2], 30, axis=0)
    labels = ["dog", *["cat"] * 29, *["dog"] * 30]
    put_shard(
        store, "a", [f"i{n:02d}" for n in range(60)], labels, centres + rng.normal(0, 0.1, (60, 4))
    )
    index = build_index(store, POOL, ENCODER, ["a"], None)
    found = pool_agreement(store, index)
    agreement = dict(
        zip(found["image_id"].to_pylist(), found["label_agreement"].to_pylist(), strict=True)
    )
    assert agreement.pop("i00") == 0
    assert min(agreement.values()) == pytest.approx(0.95, abs=0.05)
    key = keys.pool_agreement(POOL, ENCODER, index.index_id)
    before = store.fs.info(store.path(key))["mtime"]
    assert pool_agreement(store, index) == found
    assert store.fs.info(store.path(key))["mtime"] == before
