"""Lance datasets as pools, written by Lance's own library."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources import lance as lance_source
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage, Reject
from dcd.sources.shards import fetch_images, list_images, read_shard
from tests.case import png

lance: Any = pytest.importorskip("lance")
IMAGES = [png(np.random.default_rng(n), "red", dark=False) for n in range(6)]


def rows(**columns: object) -> pa.Table:
    return pa.table({"image": IMAGES, "label": ["cat ", "dog"] * 3} | columns)


def seen(uri: str) -> dict[str, tuple[bytes, str | None]]:
    data = DataConfig(images=uri)
    found = {}
    for shard in list_shards(data):
        read = [i for i in read_shard(shard, data) if isinstance(i, RawImage)]
        listed = [(i.image_id, i.weak_label) for i in list_images(shard, data)]  # pyright: ignore
        assert listed == [(i.image_id, i.weak_label) for i in read]
        assert len(read) == shard.n_images
        found |= {i.image_id: (i.data, i.weak_label) for i in read}
    return found


def expected(ids: list[str]) -> dict[str, tuple[bytes, str]]:
    labels = ["cat", "dog"] * 3
    return {i: (IMAGES[n], labels[n]) for n, i in enumerate(ids)}


def test_a_fragment_is_a_shard_and_rows_keep_their_names(tmp_path: Path):
    uri = str(tmp_path / "Photos.lance")
    lance.write_dataset(rows(), uri, max_rows_per_file=4)
    ids = [*(f"Photos-00000/{n}" for n in range(4)), "Photos-00001/0", "Photos-00001/1"]
    assert seen(uri) == expected(ids)
    before = {shard.name: shard.etag for shard in list_shards(DataConfig(images=uri))}
    lance.dataset(uri).delete("label = 'dog'")
    assert list(seen(uri)) == ids[::2]
    after = {shard.name: shard.etag for shard in list_shards(DataConfig(images=uri))}
    assert before != after


def test_ids_codes_and_struct_images_are_read_as_in_parquet(tmp_path: Path):
    uri = str(tmp_path / "p.lance")
    names = b'{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    image = pa.array([{"bytes": data, "path": None} for data in IMAGES])
    table = rows(image=image, label=pa.array([0, 1] * 3), image_id=pa.array(range(6)))
    lance.write_dataset(table.replace_schema_metadata({b"huggingface": names}), uri)
    assert seen(uri) == expected([str(n) for n in range(6)])
    data = DataConfig(images=uri)
    (shard,) = list_shards(data)
    assert [i.data for i in fetch_images(shard, data, ["4", "1"])] == [IMAGES[1], IMAGES[4]]


def test_blob_columns_are_read(tmp_path: Path):
    field = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    table = rows().cast(pa.schema([field, pa.field("label", pa.string())]))
    uri = str(tmp_path / "p.lance")
    lance.write_dataset(table, uri)
    assert seen(uri) == expected([f"p-00000/{n}" for n in range(6)])


def test_what_is_no_image_is_a_reject(tmp_path: Path):
    uri = str(tmp_path / "p.lance")
    table = rows(image=pa.array([None, *IMAGES[1:]]), image_id=["a", None, *"cdef"])
    lance.write_dataset(table, uri)
    data = DataConfig(images=uri)
    (shard,) = list_shards(data)
    found = [i for i in read_shard(shard, data) if isinstance(i, Reject)]
    assert [(i.image_id, i.reason) for i in found] == [
        ("a", "no image bytes"),
        ("p-00000/1", "no id in column 'image_id'"),
    ]


def test_a_missing_library_or_dataset_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="no readable Lance dataset"):
        list_shards(DataConfig(images=str(tmp_path / "none.lance")))
    monkeypatch.setattr(lance_source, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'data-centric-debugging\[lance\]'"):
        list_shards(DataConfig(images=str(tmp_path / "none.lance")))


def test_a_dataset_on_an_object_store(s3_url: str):
    table, uri = rows(), f"{s3_url}/p.lance"
    options = import_module("dcd.sources.lance")._storage_options()
    lance.write_dataset(table, uri, storage_options=options)
    assert seen(uri) == expected([f"p-00000/{n}" for n in range(6)])
