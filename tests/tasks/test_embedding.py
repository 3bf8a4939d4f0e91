from pathlib import Path

import numpy as np
import pytest

from dcd.config import DataConfig
from dcd.errors import StoreUnavailable
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store
from tasks import embedding
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard

SOURCE = Source(POOL, DataConfig(images="i"))


def shard(name: str) -> Shard:
    return Shard(name, f"memory/{name}.tar", "webdataset", None, "1")


def test_of_a_broken_task_what_it_had_published_is_kept(tmp_path: Path):
    put_shard(Store(str(tmp_path)), "s0", ["a", "b"], ["x", "y"], np.zeros((2, 4)))
    died = RuntimeError("the worker\ndied")
    found = embedding.salvage.fn(str(tmp_path), SOURCE, [shard("s0"), shard("s1")], ENCODER, died)
    assert [(done.stats.shard, done.stats.n_images) for done in found.done] == [("s0", 2)]
    assert [(f.shard, f.reason) for f in found.failed] == [("s1", "RuntimeError: the worker died")]


def test_a_store_that_is_away_is_the_reason_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def away(*_: object):
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(embedding, "published", away)
    found = embedding.salvage.fn(str(tmp_path), SOURCE, [shard("s0")], ENCODER, RuntimeError("x"))
    assert found.done == ()
    assert found.failed[0].reason == "StoreUnavailable: the store is away"
