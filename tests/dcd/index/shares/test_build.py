"""An index that several workers build has the bytes of one that a single process builds."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import IndexConfig
from dcd.errors import CountMismatch, DataError, ObjectFault
from dcd.index import sort
from dcd.index.build import build_index, find_recipe
from dcd.index.shares import build as shares
from dcd.index.shares.build import SharedBuild, begin_shares, finish, write_share
from dcd.index.shares.plan import Workers
from dcd.index.sort import Sizes
from dcd.store import Store, keys
from tests.dcd.index.vector_pools import ENCODER, POOL, content, put_shard

DIM = 8
SIZES = Sizes(group_rows=50, own_group_rows=20, part_rows=120)
MEMORY = 2**28
CONFIG = IndexConfig(sample_rows=60)
SHARDS = [f"s{number}" for number in range(4)]

BY_IMAGE = pa.table(
    {
        "image_id": [f"{shard}-{n:03d}" for shard in SHARDS for n in range(0, 150, 2)] + ["s0-000"],
        "label": [f"given-{n % 3}" for _ in SHARDS for n in range(75)] + ["given-9"],
    }
)
BY_WEAK_LABEL = pa.table(
    {"weak_label": ["l00", "l01", "l01", "l05", "l09"], "label": ["x", "x", "y", "y", "a"]}
)


@pytest.fixture
def pool(tmp_path) -> Store:
    """Ten labels from 0 to a third of the rows, images that two shards hold, some without label."""
    store = Store(str(tmp_path / "pool"))
    rng = np.random.default_rng(0)
    for shard in SHARDS:
        ids = [f"{shard}-{n:03d}" for n in range(150)]
        labels: list[str | None] = [f"l{min(9, int(rng.exponential(3))):02d}" for _ in ids]
        vectors = rng.standard_normal((150, DIM))
        ids[:3], labels[:3] = (
            ["everywhere-0", "everywhere-1", f"{shard}-none"],
            ["l00", "l09", None],
        )
        vectors[:2] = 1
        put_shard(store, shard, ids, labels, vectors)
    return store


@pytest.fixture
def small_files(monkeypatch):
    """What one process writes is cut as `SIZES` says."""
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * DIM * SIZES.group_rows)
    monkeypatch.setattr(sort, "MIN_GROUP_BYTES", 2 * DIM * SIZES.own_group_rows)
    monkeypatch.setattr(sort, "MAX_PART_BYTES", 2 * DIM * SIZES.part_rows)


def begun_for(store: Store, n: int, labels: pa.Table | None = None) -> SharedBuild:
    recipe = find_recipe(store, POOL, ENCODER, SHARDS, labels, CONFIG)
    begun = begin_shares(store, recipe, CONFIG, Workers(n, MEMORY), SIZES)
    assert begun is not None
    return begun


def taken_away(store: Store, prefix: str) -> dict[str, bytes]:
    """The files of an index, which is not in the store afterwards."""
    files = {key: store.read_bytes(key) for key in store.keys_under(prefix)}
    for key in files:
        store.delete(key)
    return files


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("n", [2, 3, 40])
@pytest.mark.parametrize("labels", [None, BY_IMAGE, BY_WEAK_LABEL], ids=["weak", "image", "map"])
def test_any_number_of_workers_writes_the_bytes_of_one_process(pool, labels, n):
    alone = build_index(pool, POOL, ENCODER, SHARDS, labels, CONFIG)
    assert alone.n_unlabelled > 0
    assert alone.n_duplicates > 0 or labels is BY_IMAGE
    expected = taken_away(pool, alone.prefix)
    begun = begun_for(pool, n, labels)
    assert 2 <= len(begun.shares) <= n
    for share in begun.shares:
        write_share(pool, begun, share)
    assert finish(pool, begun) == alone
    assert taken_away(pool, alone.prefix) == expected


@pytest.mark.usefixtures("small_files")
def test_one_large_label_is_cut_between_workers_too(tmp_path):
    store = Store(str(tmp_path))
    rng = np.random.default_rng(1)
    for shard in SHARDS:
        put_shard(
            store, shard, [f"{shard}-{n}" for n in range(150)], ["l"] * 150,
            rng.standard_normal((150, DIM)),
        )  # fmt: skip
    alone = build_index(store, POOL, ENCODER, SHARDS, None, CONFIG)
    expected = taken_away(store, alone.prefix)
    begun = begun_for(store, 3)
    assert len(begun.shares) == 3
    finish(store, begun)
    assert taken_away(store, alone.prefix) == expected


@pytest.mark.usefixtures("small_files")
def test_two_processes_write_the_bytes_of_one(pool):
    alone = build_index(pool, POOL, ENCODER, SHARDS, BY_IMAGE, CONFIG)
    expected = taken_away(pool, alone.prefix)
    begun = begun_for(pool, 2, BY_IMAGE)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        list(processes.map(partial(write_share, pool, begun), begun.shares))
    assert finish(pool, begun) == alone
    assert taken_away(pool, alone.prefix) == expected


def test_there_is_no_index_before_the_end_and_no_note_after_it(pool):
    begun = begun_for(pool, 3)
    for share in begun.shares:
        write_share(pool, begun, share)
        assert not pool.exists(keys.index_info(begun.prefix))
    assert pool.keys_under(keys.index_shares(begun.prefix))
    index = finish(pool, begun)
    assert pool.keys_under(keys.index_shares(begun.prefix)) == []
    assert finish(pool, begun) == index  # as of two runs at once


def test_a_share_that_is_there_is_not_made_again_and_one_that_lacks_a_file_is(pool, monkeypatch):
    begun = begun_for(pool, 3)
    first, *_ = begun.shares
    write_share(pool, begun, first)
    written = []
    read = shares.read_rows
    monkeypatch.setattr(shares, "read_rows", lambda *args: written.append(1) or read(*args))
    write_share(pool, begun_for(pool, 3), first)
    assert written == []
    pool.delete(keys.index_vectors(begun.prefix, first.first_part))
    write_share(pool, begun, first)
    assert written == [1]
    finish(pool, begun)
    assert len(written) == len(begun.shares)


def test_notes_that_another_run_cleared_are_no_fault_once_its_index_is_there(pool, monkeypatch):
    begun = begun_for(pool, 2)
    index = finish(pool, begun)

    def cleared(*_: object) -> None:
        """As if it had been written just before."""

    monkeypatch.setattr(shares, "write_share", cleared)
    assert finish(pool, begun) == index
    pool.delete(keys.index_info(begun.prefix))
    with pytest.raises(ObjectFault):
        finish(pool, begun)


def test_two_images_of_one_id_are_refused_before_anything_is_written(pool):
    put_shard(pool, "s3", ["everywhere-0"], ["l05"], np.ones((1, DIM)), [content("other")])
    with pytest.raises(DataError, match="'everywhere-0' names different images in the shards"):
        begun_for(pool, 2)
    assert pool.keys_under("index") == []


def test_rows_that_were_not_counted_are_an_error(pool):
    begun = begun_for(pool, 2)
    put_shard(pool, "s0", ["new"], ["l00"], np.ones((1, DIM)))
    with pytest.raises(CountMismatch, match="was the pool embedded again meanwhile"):
        finish(pool, begun)
    assert not pool.exists(keys.index_info(begun.prefix))


@pytest.mark.parametrize(
    "config", [IndexConfig(storage="int8"), IndexConfig(max_scan_bytes=2**16), IndexConfig()]
)
def test_what_is_trained_on_all_rows_or_is_one_file_is_left_to_one_process(tmp_path, config):
    store = Store(str(tmp_path))
    n = 5000
    vectors = np.random.default_rng(0).standard_normal((n, DIM))
    put_shard(store, "s0", [f"i{i}" for i in range(n)], ["l"] * n, vectors)
    recipe = find_recipe(store, POOL, ENCODER, ["s0"], None, config)
    sizes = None if config == IndexConfig() else SIZES
    assert begin_shares(store, recipe, config, Workers(2, MEMORY), sizes) is None
