"""The speed of a pool: measured on whole batches, after everything is compiled."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dcd.config import DataConfig, EncoderConfig
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.estimate.pool_sample import embedded_rows, sample_pool
from dcd.sources.listing import list_shards
from dcd.sources.records import Shard
from dcd.store import Store
from tests.case import write_case
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard

COMPILATION_S = 2.0


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three shards of 24 images."""
    write_case(tmp_path)
    return DataConfig(images=str(tmp_path / "pool-*.parquet"))


@pytest.fixture
def shards(data: DataConfig) -> list[Shard]:
    return list_shards(data)


def encoder(batch_size: int) -> Encoder:
    """One that compiles at its first call, as long as all other images take together."""
    real = load_encoder(EncoderConfig(model="test_resnet", weights="random", input_size=32))
    calls: list[int] = []

    def embed(pixels: np.ndarray) -> np.ndarray:
        calls.append(len(pixels))
        if len(calls) == 1:
            time.sleep(COMPILATION_S)
        return real.embed(pixels)

    return replace(real, embed=embed, batch_size=batch_size)


def test_compilation_is_not_timed_and_a_small_first_shard_is_gone_beyond(data, shards):
    sample = sample_pool(shards, data, encoder(batch_size=20))
    assert sample.n_images == sample.n_embedded == 72  # 24 would not fill two batches
    assert sample.images_per_s is not None
    assert 52 / sample.images_per_s < COMPILATION_S / 2


def test_where_no_second_batch_is_left_the_first_images_are_timed_again(data, shards):
    sample = sample_pool(shards[:1], data, encoder(batch_size=20))
    assert sample.n_images == 24
    assert sample.images_per_s is not None
    assert 24 / sample.images_per_s < COMPILATION_S / 2


def test_fewer_images_than_a_batch_tell_no_speed(data, shards):
    sample = sample_pool(shards, data, encoder(batch_size=100))
    assert sample.images_per_s is None
    assert sample.n_images == 72
    assert sample.rows.num_rows == 72
    assert 0 < sample.image_bytes < sample.tar_bytes


def test_rows_of_embedded_shards_are_read_as_far_as_they_fit(tmp_path, monkeypatch):
    store = Store(str(tmp_path / "store"))
    names = [f"s{n}" for n in range(5)]
    for name in names:
        put_shard(store, name, [f"{name}-{n}" for n in range(10)], ["a"] * 10, np.ones((10, 4)))
    from dcd.embeddings.embed import ShardStats
    from dcd.estimate import pool_sample

    done = [ShardStats(name, 10, 10, 0) for name in names]
    every = embedded_rows(store, POOL, ENCODER, done)
    assert every is not None
    assert sorted(set(every["shard"].to_pylist())) == names
    monkeypatch.setattr(pool_sample, "_MAX_ROW_BYTES", 2 * 10 * 8)
    few = embedded_rows(store, POOL, ENCODER, done)
    assert few is not None
    assert few.num_rows == 20
    assert embedded_rows(store, POOL, ENCODER, []) is None
