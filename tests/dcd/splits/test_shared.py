"""Pictures that two splits share under different ids."""

import pyarrow as pa
import pytest

from dcd.config import DataConfig, Split
from dcd.sources.source import Source
from dcd.splits.shared import shared_pictures
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables.schemas import CONTENT_HASH, content_hash


def split(store: Store, name: Split, pictures: dict[str, bytes]) -> SplitInfo:
    hashes = [content_hash(data) for data in pictures.values()]
    table = pa.table({"image_id": list(pictures), "content_hash": pa.array(hashes, CONTENT_HASH)})
    store.write_table(keys.split(f"s-{name}"), table)
    source = Source("own", DataConfig(images="own"))
    return SplitInfo(f"s-{name}", name, source, len(pictures), len(pictures), reused=False)


def test_each_pair_of_splits_that_shares_pictures_is_told(
    tmp_path, caplog: pytest.LogCaptureFixture
):
    store = Store(str(tmp_path))
    splits: dict[Split, SplitInfo] = {
        "train": split(store, "train", {"a": b"1", "b": b"2"}),
        "test": split(store, "test", {"c": b"2", "d": b"3", "e": b"4"}),
        "debug_heldout": split(store, "debug_heldout", {"f": b"4"}),
        "not_like_this": split(store, "not_like_this", {"g": b"1"}),
    }
    told = shared_pictures(store, {3: splits})
    assert [words.partition(": figures")[0] for words in told] == [
        "test (seed 3): 1 pictures of 3 that were looked at are in train too, such as 'c', which "
        "is 'b' there",
        "debug_heldout (seed 3): 1 pictures of 1 that were looked at are in test too, such as 'f', "
        "which is 'e' there",
    ]
    assert told == [record.message for record in caplog.records]
    del splits["test"]
    assert shared_pictures(store, {3: splits}) == []
