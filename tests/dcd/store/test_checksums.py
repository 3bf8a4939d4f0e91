"""No flipped bit and no cut gives another value: it is named, or nothing has changed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from dcd.errors import ObjectUnreadable
from dcd.store import Store
from dcd.store.checksums import is_sealed, seal_file, sealed, unsealed
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
