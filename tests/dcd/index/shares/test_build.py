"""An index that several workers build has the bytes of one that a single process builds."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import IndexConfig, PoolConfig
from dcd.errors import CountMismatch, DataError, ObjectFault
from dcd.index import layout, sort
from dcd.index.build import build_index, find_recipe
from dcd.index.info import IndexInfo
from dcd.index.shares import build as shares
from dcd.index.shares import runs
from dcd.index.shares.begun import BegunIndex
from dcd.index.shares.build import DividedIndex, begin, begin_runs, divide, finish, write_share
from dcd.index.shares.plan import Workers
from dcd.index.shares.runs import write_run
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store, keys
from tests.dcd.index.vector_pools import ENCODER, POOL, content, put_shard

DIM = 8
MEMORY = 2**28
CONFIG = IndexConfig(sample_rows=60)
LISTS = CONFIG.model_copy(update={"max_scan_bytes": 2**16})
SHARDS = [f"s{number}" for number in range(4)]
DATA = PoolConfig(name=POOL, images="nowhere/*.parquet")

BY_IMAGE = pa.table(
    {
        "image_id": [f"{shard}-{n:03d}" for shard in SHARDS for n in range(0, 150, 2)] + ["s0-000"],
        "label": [f"given-{n % 3}" for _ in SHARDS for n in range(75)] + ["given-9"],
    }
)
BY_WEAK_LABEL = pa.table(
    {"weak_label": ["l00", "l01", "l01", "l05", "l09"], "label": ["x", "x", "y", "y", "a"]}
)


def write_pool(store: Store) -> Store:
    """Ten labels from 0 to a third of the rows, images that two shards hold, some without label."""
    rng = np.random.default_rng(0)
    for shard in SHARDS:
        ids = [f"{shard}-{n:03d}" for n in range(150)]
        labels: list[str | None] = [f"l{min(9, int(rng.exponential(3))):02d}" for _ in ids]
        vectors = rng.standard_normal((150, DIM))
        ids[:3] = ["everywhere-0", "everywhere-1", f"{shard}-none"]
        labels[:3] = ["l00", "l09", None]
        vectors[:2] = 1
        put_shard(store, shard, ids, labels, vectors)
    return store


@pytest.fixture
def pool(tmp_path) -> Store:
    return write_pool(Store(str(tmp_path / "pool")))


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Row groups, files, lists and row groups of runs hold few rows."""
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * DIM * 50)
    monkeypatch.setattr(sort, "MIN_GROUP_BYTES", 2 * DIM * 20)
    monkeypatch.setattr(sort, "MAX_PART_BYTES", 2 * DIM * 120)
    monkeypatch.setattr(runs, "_GROUP_BYTES", 2 * DIM * 30)
    monkeypatch.setattr(layout, "_LIST_BYTES", 2 * DIM * 128)
    monkeypatch.setattr(layout, "_TRAIN_ROWS_PER_LIST", 20)


def begun_for(
    store: Store, n: int, labels: pa.Table | None = None, config: IndexConfig = CONFIG
) -> BegunIndex:
    recipe = find_recipe(store, POOL, ENCODER, SHARDS, labels, config)
    stored = {"float16": 2 * DIM, "int8": DIM, "pq": config.pq_bytes}[config.storage]
    return begin_runs(store, recipe, config, Workers(n, MEMORY), sort.sizes_of(stored))


def divided_for(store: Store, n: int, begun: BegunIndex | None = None) -> DividedIndex:
    """An index all of whose runs are there."""
    begun = begun or begun_for(store, n)
    for run in begun.runs:
        write_run(store, begun, run)
    return divide(store, begun, n, MEMORY)


def built(store: Store, n: int, begun: BegunIndex | None = None) -> IndexInfo:
    divided = divided_for(store, n, begun)
    assert 1 < len(divided.shares) <= n
    for share in divided.shares:
        write_share(store, divided, share)
    return finish(store, divided, DATA)


def taken_away(store: Store, prefix: str) -> dict[str, bytes]:
    """The files of an index, which is not in the store afterwards."""
    files = {key: store.read_bytes(key) for key in store.keys_under(prefix)}
    for key in files:
        store.delete(key)
    return files


@pytest.mark.parametrize("n", [2, 3, 40])
@pytest.mark.parametrize("labels", [None, BY_IMAGE, BY_WEAK_LABEL], ids=["weak", "image", "map"])
def test_any_number_of_workers_writes_the_bytes_of_one_process(pool, labels, n):
    alone = build_index(pool, POOL, ENCODER, SHARDS, labels, CONFIG)
    assert alone.n_unlabelled > 0
    assert alone.n_duplicates > 0 or labels is BY_IMAGE
    expected = taken_away(pool, alone.prefix)
    assert built(pool, n, begun_for(pool, n, labels)) == alone
    assert taken_away(pool, alone.prefix) == expected


def test_workers_hand_rows_on_through_an_object_store(s3_url):
    pool = write_pool(Store(s3_url))
    alone = build_index(pool, POOL, ENCODER, SHARDS, None, CONFIG)
    expected = taken_away(pool, alone.prefix)
    assert built(pool, 2) == alone
    assert taken_away(pool, alone.prefix) == expected


@pytest.fixture
def large_label(tmp_path) -> Store:
    """One label of 5,000 rows, half of them in pairs of equal vectors, and one of 40."""
    store = Store(str(tmp_path / "large"))
    rng = np.random.default_rng(1)
    once = rng.standard_normal((1260, DIM)) + 3 * rng.integers(0, 3, (1260, DIM))
    for number, shard in enumerate(SHARDS):
        vectors = once if number < 2 else rng.standard_normal((1260, DIM))
        ids = [f"{shard}-{n:04d}" for n in range(1260)]
        put_shard(store, shard, ids, ["large"] * 1250 + ["small"] * 10, vectors)
    return store


@pytest.mark.parametrize(
    ("config", "n"),
    [
        (CONFIG, 7),
        (LISTS, 7),
        (LISTS.model_copy(update={"storage": "int8"}), 2),
        (CONFIG.model_copy(update={"storage": "pq", "pq_bytes": 4}), 2),
    ],
    ids=["float16", "lists", "int8 lists", "pq"],
)
def test_a_label_that_is_cut_between_workers_has_its_lists_codes_and_recall(large_label, config, n):
    alone = build_index(large_label, POOL, ENCODER, SHARDS, None, config)
    assert bool(alone.lists) == (config.max_scan_bytes == LISTS.max_scan_bytes)
    expected = taken_away(large_label, alone.prefix)
    assert built(large_label, n, begun_for(large_label, n, None, config)) == alone
    assert taken_away(large_label, alone.prefix) == expected


def test_two_processes_write_the_bytes_of_one(pool):
    alone = build_index(pool, POOL, ENCODER, SHARDS, BY_IMAGE, CONFIG)
    expected = taken_away(pool, alone.prefix)
    begun = begun_for(pool, 2, BY_IMAGE)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        list(processes.map(partial(write_run, pool, begun), begun.runs))
        divided = divide(pool, begun, 2, MEMORY)
        list(processes.map(partial(write_share, pool, divided), divided.shares))
    assert finish(pool, divided, DATA) == alone
    assert taken_away(pool, alone.prefix) == expected


def test_there_is_no_index_before_the_end_and_no_note_after_it(pool):
    divided = divided_for(pool, 3)
    prefix = divided.begun.prefix
    for share in divided.shares:
        write_share(pool, divided, share)
        assert not pool.exists(keys.index_info(prefix))
    assert pool.keys_under(keys.index_shares(prefix))
    index = finish(pool, divided, DATA)
    assert pool.keys_under(keys.index_shares(prefix)) == []
    assert finish(pool, divided, DATA) == index  # as of two runs at once


def test_what_is_there_is_not_made_again_and_what_lacks_a_file_is(pool, monkeypatch):
    divided = divided_for(pool, 3)
    first, *others = divided.shares
    write_share(pool, divided, first)
    done: list[str] = []
    read, merge = runs.read_rows, shares.rows_of_share
    monkeypatch.setattr(runs, "read_rows", lambda *args: done.append("run") or read(*args))
    monkeypatch.setattr(shares, "rows_of_share", lambda *args: done.append("share") or merge(*args))
    again = divided_for(pool, 3)
    assert again == divided
    write_share(pool, again, first)
    assert done == []
    pool.delete(keys.index_vectors(divided.begun.prefix, first.first_part))
    write_share(pool, divided, first)
    assert done == ["share"]
    finish(pool, divided, DATA)
    assert done == ["share"] * (1 + len(others))


def test_a_damaged_piece_that_was_set_aside_is_made_again(pool):
    alone = build_index(pool, POOL, ENCODER, SHARDS, None, CONFIG)
    expected = taken_away(pool, alone.prefix)
    divided = divided_for(pool, 2)
    prefix = divided.begun.prefix
    pool.delete(keys.index_run(prefix, divided.begun.runs[0].id))
    divided = divided_for(pool, 2)
    first, other = divided.shares
    write_share(pool, divided, first)
    write_share(pool, divided, other)
    pool.delete(keys.index_share_sample(prefix, first.id))
    pool.delete(keys.index_share_judged(prefix, other.id))
    assert finish(pool, divided, DATA) == alone
    assert taken_away(pool, prefix) == expected


def test_notes_that_another_run_cleared_are_no_fault_once_its_index_is_there(pool, monkeypatch):
    divided = divided_for(pool, 2)
    index = finish(pool, divided, DATA)

    def cleared(*_: object) -> None:
        """As if it had been written just before."""

    monkeypatch.setattr(shares, "write_share", cleared)
    assert finish(pool, divided, DATA) == index
    pool.delete(keys.index_info(divided.begun.prefix))
    with pytest.raises(ObjectFault):
        finish(pool, divided, DATA)


def test_two_images_of_one_id_are_refused_before_a_file_is_written(pool):
    put_shard(pool, "s3", ["everywhere-0"], ["l05"], np.ones((1, DIM)), [content("other")])
    with pytest.raises(DataError, match="'everywhere-0' names different images in the shards"):
        divided_for(pool, 2)
    assert not [key for key in pool.keys_under("index") if "/vectors-" in key]


def test_rows_that_were_not_counted_are_an_error(pool, monkeypatch):
    divided = divided_for(pool, 2)
    read = shares.rows_of_share
    monkeypatch.setattr(shares, "rows_of_share", lambda *args: list(read(*args))[1:])
    with pytest.raises(CountMismatch, match="rows were counted for the files from number"):
        finish(pool, divided, DATA)
    assert not pool.exists(keys.index_info(divided.begun.prefix))


def test_begin_leaves_to_one_process_what_is_there_and_what_is_one_file(pool, monkeypatch):
    listed = [Shard(name, f"memory/{name}.tar", "webdataset", 150, "1") for name in SHARDS]
    where = (pool, Source(POOL, DATA), ENCODER, listed, DATA, CONFIG)
    assert isinstance(begin(*where, Workers(2, MEMORY)), BegunIndex)
    whole = begin(*where, Workers(1, MEMORY))
    assert isinstance(whole, IndexInfo)
    divided_for(pool, 2)  # of a run that began before the other one had finished
    assert begin(*where, Workers(2, MEMORY)) == whole
    assert pool.keys_under(keys.index_shares(whole.prefix)) == []
    assert isinstance(begin(*where, Workers(2, MEMORY), compact=True), IndexInfo)
    taken_away(pool, whole.prefix)
    monkeypatch.setattr(sort, "MAX_PART_BYTES", 2**20)
    assert begin(*where, Workers(2, MEMORY)) == whole


def test_a_pool_without_a_label_is_an_error_here_too(tmp_path):
    store = Store(str(tmp_path))
    for shard in SHARDS:
        ids = [f"{shard}-{n}" for n in range(100)]
        put_shard(store, shard, ids, [None] * 100, np.ones((100, DIM)))
    divided = divided_for(store, 2)
    assert divided.shares == ()
    with pytest.raises(DataError, match="none of the images"):
        finish(store, divided, DATA)
