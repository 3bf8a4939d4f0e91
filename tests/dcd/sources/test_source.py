from pathlib import Path

import pyarrow as pa
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.source import fetch_all, fetch_shown, list_source, source_of
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
