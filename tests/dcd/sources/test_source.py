from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig, PoolConfig, RunConfig
from dcd.errors import ConfigError, DataError
from dcd.sources.source import (
    check_name,
    fetch_all,
    fetch_shown,
    list_source,
    reading_faults,
    source_of,
    sources,
)
from dcd.store import Store


def test_a_picture_that_is_gone_is_left_out_of_a_page_alone(tmp_path: Path):
    for label in ("cat", "dog", "fox"):
        (tmp_path / "pool" / label).mkdir(parents=True)
        for n in range(2):
            (tmp_path / "pool" / label / f"{n}.png").write_bytes(f"{label}{n}".encode())
    store = Store(str(tmp_path / "store"))
    source = source_of(DataConfig(images=str(tmp_path / "pool")))
    shards = list_source(store, source)
    names = [shard.name for shard in shards for _ in range(2)]
    ids = [f"{label}/{n}.png" for label in ("cat", "dog", "fox") for n in range(2)]
    rows = pa.table({"image_id": ids, "shard": names})
    assert len(fetch_shown(store, [source], rows)) == 6
    (tmp_path / "pool" / "cat" / "1.png").unlink()
    for path in (tmp_path / "pool" / "dog").iterdir():
        path.unlink()
    (tmp_path / "pool" / "dog").rmdir()
    with pytest.raises(DataError, match="not in it any more"):
        fetch_all(store, [source], rows)
    assert sorted(fetch_shown(store, [source], rows)) == ["cat/0.png", "fox/0.png", "fox/1.png"]


def folder_of(path: Path, *names: str) -> PoolConfig:
    """A named pool of pictures below a folder."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(f"{path} {name}".encode())
    return PoolConfig(name="crawl", images=str(path))


def test_a_name_stands_for_the_images_that_it_had_first(tmp_path: Path):
    store = Store(str(tmp_path / "store"))
    first = folder_of(tmp_path / "first", "cat/0.png", "dog/1.png")
    other = folder_of(tmp_path / "other", "cat/0.png", "dog/1.png")
    check_name(store, first)  # a store that knows no pool
    list_source(store, source_of(first))
    check_name(store, first)
    with pytest.raises(DataError) as caught:
        check_name(store, other)
    said = str(caught.value)
    assert f"the name crawl is that of {first.images}" in said
    assert "give the pool another name" in said
    assert "pools/crawl/shards.parquet" in said
    check_name(store, other.model_copy(update={"name": "another"}))
    check_name(store, other.model_copy(update={"name": None}))


def test_a_pool_that_grew_or_was_moved_keeps_its_name(tmp_path: Path):
    store = Store(str(tmp_path / "store"))
    (tmp_path / "old").mkdir()
    rows = pa.table({"image_id": ["a"], "image": [b"a"], "weak_label": ["cat"]})
    pq.write_table(rows, tmp_path / "old" / "0.parquet")
    pool = PoolConfig(name="crawl", images=str(tmp_path / "old" / "*.parquet"))
    list_source(store, source_of(pool))
    (tmp_path / "old").rename(tmp_path / "new")
    pq.write_table(rows, tmp_path / "new" / "1.parquet")
    check_name(store, pool.model_copy(update={"images": str(tmp_path / "new" / "*.parquet")}))


def test_a_note_without_its_images_or_damaged_says_nothing(tmp_path: Path):
    """As versions before wrote it; the next listing writes it anew."""
    store = Store(str(tmp_path / "store"))
    source = source_of(folder_of(tmp_path / "first", "cat/0.png"))
    list_source(store, source)
    other = folder_of(tmp_path / "other", "cat/0.png")
    table = store.read_table("pools/crawl/shards.parquet").replace_schema_metadata(None)
    store.write_table("pools/crawl/shards.parquet", table)
    check_name(store, other)
    store.write_raw("pools/crawl/shards.parquet", b"damaged")
    check_name(store, other)


@pytest.mark.parametrize(
    ("pool", "train", "fault"),
    [
        ({"label_column": "query"}, {"label_column": "truth"}, "label_column 'truth' is asked"),
        ({"labels": "t.csv"}, {"label_column": "truth"}, "label_column 'truth' is asked"),
        ({"image_column": "jpg"}, {"labels": "t.csv"}, "image_column 'image' is asked"),
        ({"label_column": "query"}, {"labels": "t.csv", "label_column": "truth"}, None),
        ({"label_column": "query"}, {"label_column": "query"}, None),
    ],
)
def test_images_are_read_by_one_column_of_labels(pool: dict, train: dict, fault: str | None):
    """The same images under two label columns would silently have the labels of the first."""
    other = {"images": "other"}
    config = RunConfig.model_validate(
        {
            "name": "n",
            "store": "store",
            "pool": {"images": "all.parquet", **pool},
            "train": {"images": "all.parquet", **train},
            **dict.fromkeys(("test", "error_sample", "debug_heldout"), other),
        }
    )
    if fault is None:
        assert reading_faults(config) == {}
        assert [source.data.images for source in sources(config)] == ["all.parquet", "other"]
        return
    assert fault in reading_faults(config)["train"]
    with pytest.raises(ConfigError, match=f"train: {fault} of the images of pool"):
        sources(config)
