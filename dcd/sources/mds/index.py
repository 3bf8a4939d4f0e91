"""The index.json of an MDS folder: which shards there are, and the columns of each.

The format is that of mosaicml-streaming 0.13.0, version 2; a folder is not trusted.
"""

import io
import json
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError, model_validator

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.objects import OPENED, open_object, stat_object
from dcd.sources.parquet_cells import Columns, columns_of
from dcd.store.errors import explained
from dcd.store.filesystems import locate
from dcd.store.requests import Requests

INDEX = "index.json"
INDEX_READ = OPENED * 2 + Requests(n_get=1)  # its version, then the whole
IMAGE_ENCODINGS = ("bytes", "jpeg", "png", "pil")
COMPRESSIONS = ("zstd", "gz", "bz2", "br")
_MAX_INDEX_BYTES = 256 * 2**20
_MAX_SHARD_BYTES = 2**32 - 1  # offsets are of 32 bits
_LABELS: Mapping[str, pa.DataType] = {
    "bytes": pa.binary(),
    "str": pa.string(),
    "int": pa.int64(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u")
       for bits in (8, 16, 32, 64)},
    **{f"float{bits}": getattr(pa, f"float{bits}")() for bits in (16, 32, 64)},
    "str_int": pa.int64(),
    "str_float": pa.float64(),
    "str_decimal": pa.decimal128(38),
    "json": pa.string(),
}  # fmt: skip


class ShardFile(BaseModel):
    """A file of a shard, as the index tells it."""

    basename: str
    bytes: int = Field(ge=0)
    hashes: dict[str, str] = {}

    @model_validator(mode="after")
    def _lies_below(self) -> "ShardFile":
        inside = posixpath.normpath(self.basename)
        if inside.startswith(("/", "..")) or "#" in inside or "\\" in inside or "\0" in inside:
            raise ValueError(f"basename {self.basename!r} leads out of the folder, or holds a #")
        return self


class MdsShard(BaseModel):
    """One shard of an index. zip_data: of a shard that is compressed."""

    samples: int = Field(ge=0)
    column_names: list[str]
    column_encodings: list[str]
    column_sizes: list[int | None]
    compression: str | None = None
    raw_data: ShardFile
    zip_data: ShardFile | None = None

    @model_validator(mode="after")
    def _fits(self) -> "MdsShard":
        n = len(self.column_names)
        if len(set(self.column_names)) < n:
            raise ValueError("two columns have one name")
        if not len(self.column_encodings) == len(self.column_sizes) == n:
            raise ValueError("column_names, column_encodings and column_sizes differ in length")
        if self.raw_data.bytes > _MAX_SHARD_BYTES:
            raise ValueError("a shard of over 4 GiB, whose offsets of 32 bits have overflowed")
        return self

    @property
    def files(self) -> list[ShardFile]:
        """Its files, the unpacked one first."""
        return [self.raw_data, *([self.zip_data] if self.zip_data else [])]

    @property
    def codec(self) -> str | None:
        """The compression without its level; None where the shard is not compressed."""
        return self.compression.partition(":")[0] if self.compression and self.zip_data else None

    def encoding(self, column: str) -> str:
        return self.column_encodings[self.column_names.index(column)]


def shard_columns(shard: MdsShard, data: DataConfig, uri: str) -> Columns:
    """Find the columns that are read, by the rules of Parquet.

    Raises DataError if one is missing, or has an encoding that cannot hold what it should.
    """
    found = columns_of(schema_of(shard), data, uri)
    _refuse(found.image, shard.encoding(found.image), IMAGE_ENCODINGS, "image_column", uri)
    for name, option in ((found.id, "id_column"), (found.label, "label_column")):
        if name is not None:
            _refuse(name, shard.encoding(name), tuple(_LABELS), option, uri)
    return found


def schema_of(shard: MdsShard) -> pa.Schema:
    """Return the columns as Arrow would have them; those that cannot be read are binary."""
    kinds = [_LABELS.get(encoding, pa.binary()) for encoding in shard.column_encodings]
    return pa.schema(list(zip(shard.column_names, kinds, strict=True)))


def is_shard_file(path: str) -> bool:
    """Tell whether a file is a shard by its name: `x.mds`, or `x.mds.zstd`."""
    return re.search(r"\.mds(\.\w+)?$", path, re.IGNORECASE) is not None


def read_index(folder: str) -> list[MdsShard]:
    """Read the index of a folder. Raises DataError, naming what is wrong, or a StoreError."""
    return _parsed(*_version(folder))


def find_shard(folder: str, basename: str) -> tuple[MdsShard, ShardFile] | None:
    """Find a shard of a folder by one of its files; None if the index does not name it.

    Raises what `read_index` does.
    """
    return _by_file(*_version(folder)).get(posixpath.normpath(basename))


def _version(folder: str) -> tuple[str, str]:
    """The URI of a folder's index, and what tells it from another under the same URI."""
    uri = f"{folder}/{INDEX}"
    located = locate(uri)
    with explained(uri, "read"):
        return uri, stat_object(located).etag


@lru_cache(maxsize=8)
def _by_file(uri: str, etag: str) -> dict[str, tuple[MdsShard, ShardFile]]:
    found: dict[str, tuple[MdsShard, ShardFile]] = {}
    for shard in _parsed(uri, etag):
        for file in shard.files:
            found.setdefault(posixpath.normpath(file.basename), (shard, file))
    return found


@lru_cache(maxsize=8)  # every shard asks for it
def _parsed(uri: str, etag: str) -> list[MdsShard]:
    with io.BufferedReader(open_object(uri)) as file:
        text = file.read(_MAX_INDEX_BYTES + 1)
    if len(text) > _MAX_INDEX_BYTES:
        raise DataError(f"{uri}: over {_MAX_INDEX_BYTES} bytes, no index of MDS")
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{uri}: is no JSON: {str(err)[:200]}") from err
    shards = index.get("shards") if isinstance(index, dict) else None
    if not isinstance(shards, list):
        raise DataError(f"{uri}: expected an object with a list `shards`, as MDS has it")
    if index.get("version") != 2:
        raise DataError(f"{uri}: version {index.get('version')!r} of MDS; version 2 is read")
    return [_shard(uri, number, shard) for number, shard in enumerate(shards)]


def _shard(uri: str, number: int, found: Any) -> MdsShard:
    if not isinstance(found, dict) or found.get("format") != "mds":
        form = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise DataError(
            f"{uri}: shard {number} is of the format {form!r}; of the formats of "
            "mosaicml-streaming mds is read"
        )
    if found.get("version", 2) != 2:
        raise DataError(f"{uri}: shard {number} has version {found['version']!r}; 2 is read")
    try:
        return MdsShard.model_validate(found)
    except ValidationError as err:
        problem = err.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise DataError(f"{uri}: shard {number}: {place or 'its entry'}: {problem['msg']}") from err


def _refuse(column: str, encoding: str, allowed: tuple[str, ...], option: str, uri: str) -> None:
    """Raises DataError for an encoding that is not read for this."""
    if encoding in allowed:
        return
    why = "which is never unpickled, since that runs code from the file; " * (encoding == "pkl")
    raise DataError(
        f"{uri}: column {column!r} has the encoding {encoding!r}, {why}"
        f"expected one of {', '.join(allowed)}; name another as {option}, or write it anew"
    )
