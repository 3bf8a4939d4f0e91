"""Write MDS folders as mosaicml-streaming does, which cannot be installed beside the tests."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIZES = {"int": 8, "int64": 8, "uint8": 1, "float32": 4}


def write_mds(
    folder: Path,
    columns: dict[str, str],
    shards: Sequence[Sequence[Sequence[bytes]]],
    *,
    hashes: Sequence[str] = (),
    size_limit: int = 1 << 26,
) -> None:
    """Write shards of rows of values; columns: name and encoding, sorted by name."""
    assert list(columns) == sorted(columns)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "column_encodings": list(columns.values()),
        "column_names": list(columns),
        "column_sizes": [SIZES.get(encoding) for encoding in columns.values()],
        "compression": None,
        "format": "mds",
        "hashes": list(hashes),
        "size_limit": size_limit,
        "version": 2,
    }
    told = [_write(folder, number, rows, settings) for number, rows in enumerate(shards)]
    index = json.dumps({"shards": told, "version": 2}, sort_keys=True)
    (folder / "index.json").write_text(index)


def _write(
    folder: Path, number: int, rows: Sequence[Sequence[bytes]], settings: dict[str, object]
) -> dict[str, object]:
    noted = json.dumps(settings, sort_keys=True).encode()
    samples = [_sample(row, settings["column_sizes"]) for row in rows]  # pyright: ignore
    lengths = [4 * (len(rows) + 2) + len(noted), *map(len, samples)]
    head = np.array([len(rows), *np.cumsum(lengths)], "<u4").tobytes()
    data = b"".join([head, noted, *samples])
    name = f"shard.{number:05d}.mds"
    (folder / name).write_bytes(data)
    kinds: list[str] = settings["hashes"]  # pyright: ignore
    digests = {kind: hashlib.new(kind, data).hexdigest() for kind in kinds}
    raw = {"basename": name, "bytes": len(data), "hashes": digests}
    return {**settings, "raw_data": raw, "samples": len(rows), "zip_data": None}


def _sample(row: Sequence[bytes], sizes: Sequence[int | None]) -> bytes:
    varying = [len(value) for value, size in zip(row, sizes, strict=True) if size is None]
    return np.array(varying, "<u4").tobytes() + b"".join(row)
