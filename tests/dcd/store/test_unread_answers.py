"""Answers of an S3 server that are longer than the piece of an object that Arrow asked for."""

from collections.abc import Iterator
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
from s3fs import S3FileSystem

from dcd.embeddings import read
from dcd.embeddings.read import find_embedded, read_labels
from dcd.errors import StoreRefused, StoreUnavailable
from dcd.index.row_groups import Reader, RowGroup
from dcd.store import Store
from tests.dcd.index.vector_pools import ENCODER, POOL, put_shard
from tests.faulty_proxy import Fault, FaultyProxy, Request

KEY = "noise/small.parquet"
TABLE = pa.table({"number": [1, 2]})


@pytest.fixture
def proxy(
    moto_endpoint: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """The client that is not Arrow's tries once, and waits for nothing."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    proxy = FaultyProxy(moto_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: FaultyProxy, s3_url: str) -> Store:
    store = Store(s3_url)
    store.write_table(KEY, TABLE)
    return store


def answer(proxy: FaultyProxy, fault: Fault, n_times: int = 1, *, after: int = 0) -> None:
    """Answer so many reads of objects so, after some that are well."""
    seen = count()

    def decide(request: Request) -> Fault | None:
        is_read = request.method == "GET" and "list-type" not in request.path
        return fault if is_read and after <= next(seen) < after + n_times else None

    proxy.decide = decide


@pytest.mark.parametrize("fault", ["500", "503"])
def test_a_busy_store_is_asked_again(store: Store, proxy: FaultyProxy, fault: Fault):
    answer(proxy, fault)
    assert store.read_table(KEY) == TABLE
    answer(proxy, fault)
    assert store.read_schema(KEY).names == ["number"]
    answer(proxy, fault)
    with store.open_parquet(KEY) as file:
        assert file.metadata.num_rows == 2
    answer(proxy, fault)
    assert store.check(KEY)


def test_an_expired_token_is_called_so(store: Store, proxy: FaultyProxy):
    answer(proxy, "expired", 1000)
    with pytest.raises(StoreRefused, match="expired"):
        store.read_table(KEY)


def test_a_missing_right_is_called_so(store: Store, proxy: FaultyProxy):
    answer(proxy, "403", 1000)
    with pytest.raises(StoreRefused, match="the right to read is missing"):
        store.read_table(KEY)


def test_a_store_that_stays_busy_is_said_to_be(store: Store, proxy: FaultyProxy):
    answer(proxy, "503", 1000)
    with pytest.raises(StoreUnavailable, match="busy"):
        store.read_table(KEY)


def test_rows_of_a_shard_come_once(store: Store, proxy: FaultyProxy, monkeypatch):
    """Behind the footer, which is longer, the labels are a piece of a hundred bytes."""
    monkeypatch.setattr(read, "_READ_BATCH_ROWS", 64)
    ids = [f"i{n:04d}" for n in range(256)]
    put_shard(store, "s0", ids, ["cat"] * len(ids), np.ones((len(ids), 8), np.float32))
    shards = find_embedded(store, POOL, ENCODER, ["s0"])
    answer(proxy, "503", after=1)
    labels = [label for batch in read_labels(store, shards) for label in batch[0].to_pylist()]
    assert labels == ["cat"] * len(ids)


def test_a_row_group_is_read_again(store: Store, proxy: FaultyProxy):
    with Reader(store) as reader:
        group = RowGroup(KEY, 0, ((0, 2),), (0,))
        assert reader.footer(KEY).num_rows == 2
        answer(proxy, "503")
        assert reader.read(group, ["number"]) == TABLE


def test_an_open_file_is_read_again(store: Store, proxy: FaultyProxy):
    with store.open_parquet(KEY) as file:
        answer(proxy, "503")
        assert file.row_group(0) == TABLE
        answer(proxy, "503")
        (batch,) = file.batches(10, ["number"])
        assert pa.Table.from_batches([batch]) == TABLE
