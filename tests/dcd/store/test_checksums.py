"""No flipped bit and no cut gives another value: it is named, or nothing has changed."""

import json
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from dcd.errors import ObjectUnreadable
from dcd.store import Store, checksums
from dcd.store.checksums import crc_of, is_sealed, seal_file, sealed, unsealed
from dcd.store.parquet import encoded

TABLE = pa.table(
    {
        "image_id": [f"i{n}" for n in range(40)],
        "label": ["red", "green"] * 20,
        "distance": pa.array(np.arange(40) / 7, pa.float32()),
    }
).replace_schema_metadata({"n_images": "40"})
DOCUMENT = {"run": "a", "figures": [1, 0.1, None], "deep": {"crc": "x"}, "text": "ä }"}
FORMS = {
    "t.parquet": encoded(TABLE),
    "d.json": json.dumps(DOCUMENT, indent=1).encode(),
    "flat.json": json.dumps(DOCUMENT).encode(),
    "m.safetensors": save({"w": np.arange(12, dtype=np.float32)}, {"format": "pt"}),
    "p.html": b"<html><p>text</p></html>\n",
    "c.pt": b"any bytes",
}


def read(store: Store, key: str) -> object:
    match key.rpartition(".")[2]:
        case "parquet":
            # What the footer says beside the columns is a value too.
            return store.read_table(key).to_pydict(), store.read_metadata(key)
        case "json":
            return store.read_json(key)
        case "safetensors":
            return {name: value.tolist() for name, value in load(store.read_bytes(key)).items()}
        case _:
            return store.read_bytes(key)


@pytest.mark.parametrize("key", FORMS)
def test_what_is_sealed_reads_as_it_was(tmp_path, key):
    store = Store(str(tmp_path))
    store.write_bytes(key, FORMS[key])
    data = store.read_raw(key)
    assert is_sealed(key, data)
    assert store.check(key)
    assert sealed(key, FORMS[key]) == data
    if not key.endswith(("parquet", "safetensors")):
        assert unsealed(key, data) == FORMS[key]
    plain = Store(str(tmp_path / "old"))
    plain.write_raw(key, FORMS[key])  # as versions without checksums wrote it
    assert read(plain, key) == read(store, key)
    assert not plain.check(key)


@pytest.mark.parametrize("key", FORMS)
def test_every_flipped_bit_is_named_or_changes_nothing(tmp_path, key):
    store = Store(str(tmp_path))
    store.write_bytes(key, FORMS[key])
    expected, data = read(store, key), store.read_raw(key)
    n_silent = 0
    for at in range(len(data)):
        bit = 1 << (at % 8)
        Path(store.path(key)).write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        try:
            found = read(store, key)
        except ObjectUnreadable:
            continue
        n_silent += 1
        if not key.endswith((".html", ".pt")):  # there a damaged checksum looks like text
            assert found == expected, at
    assert n_silent <= 40  # bits of the checksum's own frame


@pytest.mark.parametrize("key", ["t.parquet", "d.json", "m.safetensors"])
def test_every_cut_is_named(tmp_path, key):
    store = Store(str(tmp_path))
    store.write_bytes(key, FORMS[key])
    data = store.read_raw(key)
    for length in range(len(data)):
        store.write_raw(key, data[:length])
        with pytest.raises(ObjectUnreadable):
            read(store, key)


@pytest.mark.parametrize("key", FORMS)
def test_a_file_is_sealed_as_bytes_are(tmp_path, key):
    path = tmp_path / "file"
    path.write_bytes(FORMS[key])
    seal_file(path, key)
    assert path.read_bytes() == sealed(key, FORMS[key])


def test_what_is_not_of_its_form_stays_as_it_is():
    for key in ("a.parquet", "a.json", "a.safetensors"):
        assert sealed(key, b"[]") == b"[]"


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"garbage" * 100),
        *(b"PAR1" + b"\xff\xff\xff\x7fPAR1", b"\1\0\0\0PAR1"),  # more footer than file
        FORMS["t.parquet"][:-1],
    ],
)
def test_a_file_that_is_no_parquet_stays_as_it_is(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    seal_file(path, "t.parquet")
    assert path.read_bytes() == data == sealed("t.parquet", data)


def test_a_checksum_of_pieces_is_that_of_the_whole_and_ends_where_they_do(monkeypatch):
    monkeypatch.setattr(checksums, "_PIECE_BYTES", 7)
    data = FORMS["t.parquet"]
    assert crc_of(BytesIO(data).read, 100) == zlib.crc32(data[:100])
    assert crc_of(BytesIO(data).read, len(data) + 1) == zlib.crc32(data)
    assert crc_of(BytesIO(data).read, 0) == 0
