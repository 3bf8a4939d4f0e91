"""An index.json that is not what it should be is one clear error."""

import json
from pathlib import Path
from typing import Any

import pytest

from dcd.errors import DataError
from dcd.sources.mds.index import read_index

FILE: dict[str, Any] = {"basename": "shard.00000.mds", "bytes": 9, "hashes": {}}
SHARD: dict[str, Any] = {
    "column_encodings": ["bytes"],
    "column_names": ["image"],
    "column_sizes": [None],
    "compression": None,
    "format": "mds",
    "raw_data": FILE,
    "samples": 1,
    "version": 2,
    "zip_data": None,
}


def of(**changed: object) -> str:
    return json.dumps({"version": 2, "shards": [SHARD | changed]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "expected an object with a list `shards`"),
        ('{"version": 1, "shards": []}', "version 1 of MDS"),
        (of(format="csv"), "of the format 'csv'"),
        (of(version=3), "shard 0 has version 3"),
        (of(samples=-1), "shard 0: samples"),
        (of(samples="many"), "shard 0: samples"),
        (of(column_sizes=[]), "differ in length"),
        (of(column_names=["a", "a"], column_encodings=["str"] * 2, column_sizes=[None] * 2), "two"),
        (of(raw_data=FILE | {"basename": "../x.mds"}), "leads out of the folder"),
        (of(raw_data=FILE | {"basename": "/etc/x.mds"}), "leads out of the folder"),
        (of(raw_data=FILE | {"bytes": 2**32}), "over 4 GiB"),
        (of(raw_data=None), "shard 0: raw_data"),
    ],
    ids=lambda value: value[:30],
)
def test_a_faulty_index_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_index(str(tmp_path))
    assert message in str(caught.value)
    assert f"{tmp_path}/index.json" in str(caught.value)
