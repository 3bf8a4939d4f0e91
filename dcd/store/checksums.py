"""Give every object of the store a checksum of its own, by its form, and check it.

CRC-32, as Parquet's own pages, PNG and zip have it: it finds every single flipped bit. Where it
stands is told by the key's ending, and nobody else's reader minds it:

- `.parquet`: in 16 bytes before the footer, one of all data before them, one of the footer;
- `.json`: in the last member of the object, `"crc32"`;
- `.html`, `.md`, `.svg`: in a comment at the end;
- `.safetensors`: in the header's metadata;
- `.pt`: in 12 bytes at the start, which `unsealed` takes away.

An object without one was written by an earlier version and is taken as it is.
"""

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

_MAGIC = b"dcdcrc32"
_BLOCK = struct.Struct("<8sII")  # of Parquet: magic, data, footer
_PREFIX = struct.Struct("<8sI")  # of a checkpoint: magic, the rest
_PARQUET_END = struct.Struct("<I4s")  # bytes of the footer, magic
_PARQUET_MAGIC = b"PAR1"
_JSON = re.compile(rb',\n "crc32": "([0-9a-f]{8})"(\s*\}\s*)\Z')
_TEXT = re.compile(rb"\n<!-- crc32 ([0-9a-f]{8}) -->\n\Z")
_HEX = re.compile(r"[0-9a-f]{8}")
_TEXTS = ("html", "md", "svg")
_FORMS = ("parquet", "json", "text", "safetensors", "pt")
_PIECE_BYTES = 2**23


class ChecksumMismatch(ValueError):
    """Bytes are not those that were written."""


def sealed(key: str, data: bytes) -> bytes:
    """Return the bytes to publish under a key: `data` with its checksum, where its form has one.

    What is not of the form that the key's ending tells stays as it is.
    """
    try:
        return _sealed(_form(key), data)
    except ChecksumMismatch:
        return data


def _sealed(form: str, data: bytes) -> bytes:
    match form:
        case "parquet":
            at, view = _footer_of_whole(data, len(data)), memoryview(data)
            block = _BLOCK.pack(_MAGIC, zlib.crc32(view[:at]), zlib.crc32(view[at:]))
            return b"".join((view[:at], block, view[at:]))
        case "json" if data.rstrip().endswith(b"}") and len(data.strip()) > len(b"{}"):
            body = data.rstrip().removesuffix(b"}").rstrip()
            return b'%s,\n "crc32": "%08x"%s' % (body, zlib.crc32(data), data[len(body) :])
        case "text":
            return data + b"\n<!-- crc32 %08x -->\n" % zlib.crc32(data)
        case "safetensors":
            header, tensors = _safetensors_parts(data)
            return _with_crc(header, zlib.crc32(tensors)) + tensors
        case "pt":
            return _PREFIX.pack(_MAGIC, zlib.crc32(data)) + data
        case _:
            return data


def unsealed(key: str, data: bytes) -> bytes:
    """Return what was given to `sealed`, or bytes that read the same; checks it.

    Raises ChecksumMismatch; also for Parquet and safetensors that are cut off.
    """
    match _form(key):
        case "parquet":
            check_parquet(data)
        case "json":
            return _plain_json(data)
        case "text":
            return _plain_text(data)
        case "safetensors":
            header, tensors = _safetensors_parts(data)
            kept = header.get("__metadata__", {}).get("crc32")
            if kept is not None:
                compare(_number(kept), _crc_of_header(header, zlib.crc32(tensors)))
        case "pt" if data.startswith(_MAGIC):
            _, kept = _PREFIX.unpack_from(data)
            rest = data[_PREFIX.size :]
            compare(kept, zlib.crc32(rest))
            return rest
    return data


def seal_file(path: Path, key: str) -> None:
    """Do to a finished local file what `sealed` does to bytes; large ones are read in pieces."""
    form = _form(key)
    if form != "parquet":
        if form in _FORMS:
            path.write_bytes(sealed(key, path.read_bytes()))
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _PARQUET_END.size))
        try:
            at = _footer_of_whole(file.read(), size)
        except ChecksumMismatch:
            return
        file.seek(0)
        of_data = crc_of(file.read, at)
        footer = file.read()
        file.seek(at)
        file.write(_BLOCK.pack(_MAGIC, of_data, zlib.crc32(footer)) + footer)


def crc_of(read: Callable[[int], bytes], n_bytes: int) -> int:
    """Compute the checksum of the next bytes that `read` gives, a piece at a time.

    Of fewer where there are no more, which is then another one.
    """
    crc = 0
    while n_bytes > 0 and (piece := read(min(_PIECE_BYTES, n_bytes))):
        crc, n_bytes = zlib.crc32(piece, crc), n_bytes - len(piece)
    return crc


def is_sealed(key: str, data: bytes) -> bool:
    """Tell whether the bytes of an object carry a checksum."""
    match _form(key):
        case "parquet":
            at = _footer_start(data)
            return data[at - _BLOCK.size : at].startswith(_MAGIC)
        case "json":
            return _JSON.search(data) is not None
        case "text":
            return _TEXT.search(data) is not None
        case "safetensors":
            return "crc32" in _safetensors_parts(data)[0].get("__metadata__", {})
        case "pt":
            return data.startswith(_MAGIC)
        case _:
            return False


def check_parquet(data: bytes | memoryview) -> None:
    """Check all bytes of a Parquet object. Raises ChecksumMismatch."""
    view = memoryview(data)
    if bytes(view[:4]) != _PARQUET_MAGIC:
        raise ChecksumMismatch("does not begin as Parquet does")
    start = check_footer(view)
    if start is not None:
        _, of_data, _ = _BLOCK.unpack(view[start - _BLOCK.size : start])
        compare(of_data, zlib.crc32(view[: start - _BLOCK.size]))


def check_footer(tail: bytes | memoryview) -> int | None:
    """Check the footer at the end of a Parquet object, or of its last bytes.

    Returns where in `tail` the footer starts; None where it has no checksum, or starts before.
    Raises ChecksumMismatch.
    """
    view = memoryview(tail)
    start = _footer_start(view)
    if start < _BLOCK.size:
        return None
    magic, _, of_footer = _BLOCK.unpack(view[start - _BLOCK.size : start])
    if magic != _MAGIC:
        return None
    compare(of_footer, zlib.crc32(view[start:]))
    return start


def data_checksum(tail: bytes | memoryview) -> int | None:
    """Return the checksum of all before the checksums; None where there is none."""
    start = check_footer(tail)
    return None if start is None else _BLOCK.unpack(tail[start - _BLOCK.size : start])[1]


def compare(kept: int, found: int) -> None:
    """Raise ChecksumMismatch unless two checksums are the same."""
    if kept != found:
        raise ChecksumMismatch(f"its checksum is {found:08x}, {kept:08x} was noted")


def footer_bytes(tail: bytes | memoryview) -> int:
    """Return how many of the last bytes of a Parquet object hold its footer and its checksums."""
    return len(tail) - _footer_start(tail) + _BLOCK.size


def _plain_json(data: bytes) -> bytes:
    found = _JSON.search(data)
    if found is not None:
        plain = data[: found.start()] + found[2]
        compare(int(found[1], 16), zlib.crc32(plain))
        return plain
    try:
        document = json.loads(data)
    except ValueError as err:
        raise ChecksumMismatch(f"is no JSON ({err})") from err
    if isinstance(document, dict) and any(_is_about_crc32(name) for name in document):
        raise ChecksumMismatch("its checksum is damaged")
    return data


def _is_about_crc32(name: str) -> bool:
    """Tell whether a member is a checksum that is not written as ours are, or nearly called so."""
    same = [a == b for a, b in zip(name, "crc32", strict=False)]
    return len(name) == len("crc32") and sum(same) >= len(same) - 1


def _number(kept: object) -> int:
    if not isinstance(kept, str) or not _HEX.fullmatch(kept):
        raise ChecksumMismatch("its checksum is damaged")
    return int(kept, 16)


def _plain_text(data: bytes) -> bytes:
    found = _TEXT.search(data)
    if found is not None:
        plain = data[: found.start()]
        compare(int(found[1], 16), zlib.crc32(plain))
        return plain
    if not data:
        raise ChecksumMismatch("is empty")
    return data


def _form(key: str) -> str:
    ending = key.rpartition(".")[2]
    return "text" if ending in _TEXTS else ending


def _footer_start(data: bytes | memoryview) -> int:
    """Where the footer starts; negative where `data` is but the end of it."""
    if len(data) < _PARQUET_END.size:
        raise ChecksumMismatch(f"{len(data)} bytes, too few for Parquet")
    n_bytes, magic = _PARQUET_END.unpack(data[-_PARQUET_END.size :])
    if magic != _PARQUET_MAGIC:
        raise ChecksumMismatch("does not end as Parquet does")
    return len(data) - _PARQUET_END.size - n_bytes


def _footer_of_whole(tail: bytes, size: int) -> int:
    """Where in a whole Parquet object of `size` bytes the footer starts; `tail` ends it."""
    at = size - len(tail) + _footer_start(tail)
    if at < len(_PARQUET_MAGIC):
        raise ChecksumMismatch("its footer is longer than all of it")
    return at


def _safetensors_parts(data: bytes) -> tuple[dict, memoryview]:
    """The header of a safetensors file, and its tensors."""
    try:
        (n_bytes,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + n_bytes])
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
        raise ChecksumMismatch(f"has no header of safetensors ({err})") from err
    tensors = memoryview(data)[8 + n_bytes :]
    if len(tensors) != max(ends, default=0):
        raise ChecksumMismatch(f"{len(tensors)} bytes of tensors, {max(ends, default=0)} announced")
    return header, tensors


def _crc_of_header(header: dict, tensors: int) -> int:
    """Of a header, without the checksum that stands in it, and of tensors with a checksum."""
    told = {n: v for n, v in header.get("__metadata__", {}).items() if n != "crc32"}
    plain = json.dumps({**header, "__metadata__": told}, sort_keys=True)
    return zlib.crc32(plain.encode(), tensors)


def _with_crc(header: dict, tensors: int) -> bytes:
    """A header as safetensors begin with, padded to 8 bytes."""
    told = {**header.get("__metadata__", {}), "crc32": f"{_crc_of_header(header, tensors):08x}"}
    text = json.dumps(
        {"__metadata__": told, **{n: v for n, v in header.items() if n != "__metadata__"}}
    )
    packed = text.encode()
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed
