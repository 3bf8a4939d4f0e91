"""The samples of an MDS shard: its file at hand, whole and checked, and the columns of a row.

A shard is a count, the offsets of its samples (all of 32 bits, little-endian), its settings, and
the samples: the sizes of the columns whose size varies, then their bytes.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from dcd.sources.mds.index import MdsShard, ShardFile
from dcd.sources.objects import OPENED, is_local, open_object
from dcd.store.filesystems import locate
from dcd.store.requests import Requests

_READ_BYTES = 8 * 2**20
_ARROW_NAMES = {"gz": "gzip", "br": "brotli"}
_PALETTES = ("P", "PA")
_AS_PNG = ("1", "L", "LA", "RGB", "RGBA", "I;16")
_AS_TIFF = ("I", "F", "CMYK", "YCbCr", "LAB")


class Damage(ValueError):
    """What makes a whole shard unreadable."""


@dataclass(frozen=True)
class Span:
    """Where the bytes of a value lie in the shard."""

    start: int
    n_bytes: int


class Samples:
    """The rows of a shard's file. Raises Damage if its head is not that of the index."""

    def __init__(self, file: BinaryIO, shard: MdsShard):
        self._file, self._shard = file, shard
        n = shard.samples
        head = _exactly(file, 0, 4 * (n + 2))
        counts = np.frombuffer(head, "<u4")
        if counts[0] != n:
            raise Damage(f"holds {counts[0]} samples, its index says {n}")
        self._offsets: list[int] = counts[1:].tolist()
        self._n_varying = sum(not size for size in shard.column_sizes)

    def spans(self, row: int) -> dict[str, Span]:
        """Find the values of a row. Raises ValueError if they do not fit."""
        start, end = self._offsets[row], self._offsets[row + 1]
        if not len(self._offsets) * 4 < start <= end <= self._shard.raw_data.bytes:
            raise ValueError(f"damaged shard: sample {row} from byte {start} to {end}")
        head = _exactly(self._file, start, min(4 * self._n_varying, end - start))
        if len(head) < 4 * self._n_varying:
            raise ValueError(f"damaged shard: sample {row} has {end - start} bytes")
        varying = iter(np.frombuffer(head, "<u4").tolist())
        at, found = start + len(head), {}
        for name, size in zip(self._shard.column_names, self._shard.column_sizes, strict=True):
            n_bytes = size or next(varying)
            found[name] = Span(at, n_bytes)
            at += n_bytes
        if at != end:
            raise ValueError(f"damaged shard: the columns of sample {row} do not fill its bytes")
        return found

    def read(self, span: Span) -> bytes:
        return _exactly(self._file, span.start, span.n_bytes)


@contextmanager
def opened(shard: MdsShard, file: ShardFile, uri: str, *, check: bool) -> Iterator[Samples]:
    """Open a shard's `file`, which lies at `uri`.

    A local file that is not compressed is read where it lies; others are copied to the disk, in
    bounded memory. check: read all bytes, and compare their digest where the index has one.
    Raises Damage if it is not what the index says, StoreError if the store fails.
    """
    with io.BufferedReader(open_object(uri), _READ_BYTES) as source:
        in_place = is_local(locate(uri)) and file is shard.raw_data
        n_bytes = source.seek(0, io.SEEK_END)
        source.seek(0)
        if n_bytes != file.bytes:
            raise Damage(f"has {n_bytes:,} bytes, its index says {file.bytes:,}")
        if in_place:
            if check:
                _compare(_digest(source, file), file)
            with open(locate(uri).path, "rb", buffering=2**16) as seekable:
                yield Samples(seekable, shard)
            return
        with tempfile.TemporaryFile() as copy:
            _copy(source, copy, file)
            if file is shard.raw_data:
                yield Samples(copy, shard)
                return
            copy.seek(0)
            with tempfile.TemporaryFile() as unpacked:
                _unpack(copy, unpacked, shard)
                yield Samples(unpacked, shard)


def reading_requests(n_bytes: int) -> Requests:
    """Count what reading a shard of this size sends: its index's version, then its bytes."""
    return OPENED * 2 + Requests(n_get=-(-n_bytes // _READ_BYTES))


def checked_hash(file: ShardFile) -> str | None:
    """Return the algorithm by which a file is checked; None where the index has none we know."""
    known = hashlib.algorithms_guaranteed
    return next((name for name in sorted(file.hashes) if name in known), None)


def unchecked_hashes(shards: Sequence[MdsShard]) -> list[str]:
    """Name the digests that the indexes have and none of which can be computed here."""
    files = [shard.zip_data or shard.raw_data for shard in shards]
    return sorted({name for file in files if not checked_hash(file) for name in file.hashes})


def value_of(encoding: str, data: bytes) -> object:
    """Turn the bytes of an id or a label into a value. Raises ValueError if they are damaged."""
    match encoding:
        case "bytes" | "str":
            return data
        case "json":
            return json.loads(data)
        case "str_int":
            return int(data)
        case "str_float":
            return float(data)
        case "str_decimal":
            try:
                return Decimal(data.decode())
            except InvalidOperation as err:
                raise ValueError(f"no decimal number: {data[:40]!r}") from err
        case _:
            kind = np.dtype("int64" if encoding == "int" else encoding).newbyteorder("<")
            if len(data) != kind.itemsize:
                raise ValueError(f"{len(data)} bytes for a {encoding}")
            number = np.frombuffer(data, kind)[0]
            return int(number) if kind.kind in "iu" else number.astype(kind.newbyteorder("="))


def image_of(encoding: str, data: bytes) -> bytes:
    """Return the encoded picture of an image column. Raises ValueError if there is none."""
    if not data:
        raise ValueError("no image bytes")
    return _packed(data) if encoding == "pil" else data


def _packed(data: bytes) -> bytes:
    """The bare pixels of the encoding `pil` (width, height, mode, rows) as a PNG or a TIFF."""
    from PIL import Image  # heavy, and for this encoding alone

    if len(data) < 12:
        raise ValueError("a damaged picture of bare pixels")
    width, height, n_mode = np.frombuffer(data[:12], "<u4").tolist()
    mode = data[12 : 12 + min(n_mode, 16)].decode("ascii", "replace")
    pixels = data[12 + n_mode :]
    if mode in _PALETTES:
        raise ValueError(f"bare pixels of mode {mode}, whose palette MDS does not keep")
    if mode not in _AS_PNG + _AS_TIFF:
        raise ValueError(f"bare pixels of the mode {mode!r}, which is not read")
    if width * height > 8 * len(pixels):
        raise ValueError(f"{len(pixels)} bytes for {width}×{height} pixels")
    sink = io.BytesIO()
    try:
        image = Image.frombytes(mode, (width, height), pixels)
        image.save(sink, "PNG" if mode in _AS_PNG else "TIFF", compress_level=1)
    except (ValueError, OSError, OverflowError) as err:
        raise ValueError(f"bare pixels of {width}×{height} {mode}: {err}") from err
    return sink.getvalue()


def _exactly(file: BinaryIO, start: int, n_bytes: int) -> bytes:
    file.seek(start)
    data = file.read(n_bytes)
    if len(data) != n_bytes:
        raise Damage(f"ends at byte {start + len(data):,}, in the midst of what it holds")
    return data


def _copy(source: Any, copy: BinaryIO, file: ShardFile) -> None:
    """Copy a file and compare its digest on the way."""
    name = checked_hash(file)
    hashed = hashlib.new(name) if name else None
    while chunk := source.read(_READ_BYTES):
        copy.write(chunk)
        if hashed is not None:
            hashed.update(chunk)
    _compare(None if hashed is None else hashed.hexdigest(), file)


def _digest(source: Any, file: ShardFile) -> str | None:
    name = checked_hash(file)
    if name is None:
        return None
    return hashlib.file_digest(source, partial(hashlib.new, name)).hexdigest()


def _compare(found: str | None, file: ShardFile) -> None:
    name = checked_hash(file)
    if name is not None and found != file.hashes[name].lower():
        raise Damage(f"its {name} is {found}, its index says {file.hashes[name]}")


def _unpack(packed: BinaryIO, unpacked: BinaryIO, shard: MdsShard) -> None:
    codec = shard.codec or ""
    n_bytes = 0
    try:
        with pa.CompressedInputStream(
            pa.PythonFile(packed, "r"), _ARROW_NAMES.get(codec, codec)
        ) as stream:
            while chunk := stream.read(_READ_BYTES):
                n_bytes += len(chunk)
                if n_bytes > shard.raw_data.bytes:
                    break
                unpacked.write(chunk)
    except (pa.ArrowException, OSError) as err:
        raise Damage(f"cannot be unpacked as {codec}: {err}"[:200]) from err
    if n_bytes != shard.raw_data.bytes:
        raise Damage(f"unpacks to other than the {shard.raw_data.bytes:,} bytes of its index")
