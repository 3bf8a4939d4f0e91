import pytest

from dcd.pool import Shard
from flows.embed_pool import batched


def shards(n: int) -> list[Shard]:
    return [Shard(f"s{i:05d}", f"s{i}.tar", "webdataset", None, "e") for i in range(n)]


@pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 2500, 100_000])
def test_batches_hold_every_shard_once_in_order(n):
    batches = batched(shards(n), 1000)
    assert [s for batch in batches for s in batch] == shards(n)
    assert len(batches) == min(n, 1000)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
