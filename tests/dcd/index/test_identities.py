from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import IndexConfig
from dcd.errors import DataError
from dcd.index import build, external_sort
from dcd.index.build import build_index
from dcd.index.identities import refuse_two_images
from dcd.index.info import info_key
from dcd.store import Store
from dcd.tables import schemas
from tests.dcd.index.vector_pools import ENCODER, POOL, content, put_shard

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Cats c0 … c3 in the shard s0."""
    store = Store(str(tmp_path / "store"))
    put_shard(store, "s0", ["c0", "c1", "c2", "c3"], ["cat"] * 4, VECTORS)
    return store


def test_an_id_of_two_images_under_two_labels_is_refused_with_both_shards(store: Store):
    other = [content("a dog"), *map(content, ("d1", "d2", "d3"))]
    put_shard(store, "s1", ["c0", "d1", "d2", "d3"], ["dog"] * 4, VECTORS, other)
    with pytest.raises(DataError, match=r"'c0' names different images in the shards s0 and s1"):
        build_index(store, POOL, ENCODER, ["s0", "s1"], None)


def test_appending_refuses_the_id_of_an_indexed_image_under_another_label(store: Store):
    put_shard(store, "s1", ["d0", "d1", "d2", "d3"], ["fox"] * 4, VECTORS)
    build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    put_shard(store, "s2", ["c3"], ["dog"], VECTORS[:1], [content("a dog")])
    with pytest.raises(DataError, match=r"'c3' names different images in the shards"):
        build_index(store, POOL, ENCODER, ["s0", "s1", "s2"], None)


def test_one_image_in_two_shards_and_under_two_labels_is_one_image(store: Store):
    put_shard(store, "s1", ["c0", "d1"], ["dog", "dog"], VECTORS[:2])
    assert build_index(store, POOL, ENCODER, ["s0", "s1"], None).n_rows == 6


def as_written_before(store: Store, shards: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An index by a version that did not look at ids. Returns the key of its index.json."""
    with monkeypatch.context() as older:
        older.setattr(build, "refuse_two_images", lambda rows, there, max_memory_bytes: rows)
        key = info_key(POOL, ENCODER, build_index(store, POOL, ENCODER, shards, None).index_id)
    described = store.read_json(key)
    del described["one_image_an_id"]
    store.write_json(key, described)
    return key


def test_an_older_index_is_refused_if_an_id_names_two_images(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    put_shard(store, "s1", ["c0"], ["dog"], VECTORS[:1], [content("a dog")])
    as_written_before(store, ["s0", "s1"], monkeypatch)
    with pytest.raises(DataError, match=r"'c0' names different images in the shards s0 and s1"):
        build_index(store, POOL, ENCODER, ["s0", "s1"], None)


def test_an_older_index_is_looked_through_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    key = as_written_before(store, ["s0"], monkeypatch)
    index = build_index(store, POOL, ENCODER, ["s0"], None)
    assert index.one_image_an_id
    assert store.read_json(key)["one_image_an_id"]
    for vectors in store.keys_under(index.prefix):
        if "vectors" in vectors:
            store.delete(vectors)
    assert build_index(store, POOL, ENCODER, ["s0"], None) == index


def test_images_that_take_part_in_nothing_do_not_matter(store: Store):
    put_shard(store, "s1", ["c0"], [None], VECTORS[:1], [content("unlabelled")])
    assert build_index(store, POOL, ENCODER, ["s0", "s1"], None).n_rows == 4


def test_many_ids_pass_in_order_within_little_memory():
    n, size = 400_000, 8_000
    hashes = pa.array([b"%016d" % i for i in range(n)], schemas.CONTENT_HASH)
    ids = pa.array([f"a/long/name/of/an/image/{i:030d}.jpg" for i in range(n)])
    whole = pa.table({"image_id": ids, "shard": pa.repeat("s", n), "content_hash": hashes})
    pieces = [whole.slice(start, size) for start in range(0, n, size)]
    passed = list(refuse_two_images(iter(pieces), (), IndexConfig().max_memory_bytes // 8))
    assert passed == pieces
    torn = whole.slice(7, 1).set_column(2, "content_hash", pa.array([b"x" * 16], pa.binary(16)))
    with pytest.raises(DataError, match=r"0007\.jpg' names different images"):
        list(refuse_two_images(iter([*pieces, torn]), (), 256 * 2**20))


def test_every_id_of_two_images_counts_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(external_sort, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(external_sort, "_MIN_BLOCKS_AT_ONCE", 1)
    rows = [(f"i{n}", "s1", content(f"i{n}")) for n in range(10)]
    rows += [(image_id, "s0", content("another")) for image_id in ("i7", "i2", "i5")]
    rows += [("i5", "s2", content("a third")), ("i4", "s2", content("i4"))]
    names = ["image_id", "shard", "content_hash"]
    types = [pa.string(), pa.string(), schemas.CONTENT_HASH]
    pieces = [
        pa.table([pa.array([value], kind) for value, kind in zip(row, types, strict=True)], names)
        for row in rows
    ]
    with pytest.raises(
        DataError, match=r"'i2' names .* the shards s0 and s1 \(3 ids are of this kind\)"
    ):
        list(refuse_two_images(iter(pieces[4:]), iter(pieces[:4]), 96 * 150))
