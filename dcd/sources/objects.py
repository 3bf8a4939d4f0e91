"""Objects of an image source: finding them, and reading their bytes. Local files or remote ones."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dcd.errors import DataError, ObjectNotFound, StoreUnavailable
from dcd.store.errors import explained
from dcd.store.filesystems import (
    LFS_MEND,
    LFS_POINTER,
    MAX_LFS_POINTER_BYTES,
    Location,
    locate,
)
from dcd.store.requests import Requests

OPENED = Requests(n_head=1)  # `open_object` on S3
_NAMES_NOTHING = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_LONGEST_KEY_BYTES = 1024  # of S3
_UNPACKED_BYTES = 2**17  # read at a time: a large read that meets damage loses all of it


@dataclass(frozen=True)
class Object:
    """One file of a source. `etag` changes with its content: the store's, or size and mtime in ns.

    `is_regular` is False for pipes, devices and links that lead nowhere: never open those.
    """

    path: str
    n_bytes: int
    etag: str
    is_regular: bool


def is_local(located: Location) -> bool:
    return "file" in located.fs.protocol


def object_uri(located: Location, path: str) -> str:
    """Return the URI that `locate` takes back to `path`; local paths stay plain."""
    return path if is_local(located) else str(located.fs.unstrip_protocol(path))


def stat_object(located: Location) -> Object:
    """Look at an object. Raises FileNotFoundError if there is nothing; links are followed.

    Names that nothing can have are names of nothing: a manifest's row may say anything.
    """
    if is_local(located):
        try:
            return _local(located.path, os.stat(located.path))
        except OSError as err:
            if err.errno not in _NAMES_NOTHING:
                raise
            raise FileNotFoundError(err.errno, err.strerror, located.path) from err
    if len(located.path.partition("/")[2].encode()) > _LONGEST_KEY_BYTES:
        raise FileNotFoundError(errno.ENOENT, "the key is too long", located.path)
    return _remote(located, located.path, located.fs.info(located.path))


def first_there(places: Mapping[str, Location]) -> tuple[str, Location, Object]:
    """Find the first of some places that is there. places: by what an error calls them.

    Raises ObjectNotFound without any, StoreError if the store fails.
    """
    for name, place in places.items():
        with suppress(ObjectNotFound), explained(name, "read"):
            return name, place, stat_object(place)
    raise ObjectNotFound(f"{next(iter(places))}: no such object")


def find_objects(folder: Location, root: Location | None = None) -> list[Object]:
    """Find all files below a folder, sorted by path; links are followed, none back into `root`.

    root: of the source that the folder belongs to, so that its parts hold what the whole does.
    A hidden local folder is one entry that ends in a slash: what it holds is not looked at. So do
    the empty objects by which S3 consoles mark folders.
    """
    if is_local(folder):
        found = list(_walk(folder.path, (root or folder).path))
    else:
        entries: Any = folder.fs.find(folder.path, detail=True)
        found = [_remote(folder, path, entry) for path, entry in entries.items()]
    return sorted(found, key=lambda item: item.path)


def glob_objects(pattern: Location) -> list[Object]:
    """Find the files that match, sorted by path; folders are left out."""
    if is_local(pattern):
        paths: Any = pattern.fs.glob(pattern.path)
        found = [_file(path) for path in paths if not os.path.isdir(path)]
    else:
        entries: Any = pattern.fs.glob(pattern.path, detail=True)
        found = [
            _remote(pattern, path, entry)
            for path, entry in entries.items()
            if entry["type"] != "directory"
        ]
    return sorted(found, key=lambda item: item.path)


def open_object(uri: str) -> io.RawIOBase:
    """Open an object, unbuffered and seekable; wrap it in `io.BufferedReader` for small reads.

    Raises ObjectNotFound, DataError if it is a pipe, a device or a pointer of Git LFS, or another
    StoreError.
    """
    located = locate(uri)
    with explained(uri, "read"):
        found = stat_object(located)
        if not found.is_regular:  # opening a pipe would hang
            what = "a folder" if located.fs.isdir(located.path) else "something else"
            raise DataError(f"{uri}: expected an object or a regular file, found {what}")
        if is_local(located):
            file = LocalFile(located.path)
            if found.n_bytes <= MAX_LFS_POINTER_BYTES:
                _refuse_pointer(uri, file)
            return file
        return RangedFile(uri, located, found.n_bytes)


def _refuse_pointer(uri: str, file: "LocalFile") -> None:
    start = file.read(len(LFS_POINTER))
    file.seek(0)
    if start == LFS_POINTER:
        file.close()
        raise DataError(f"{uri}: {LFS_MEND}")


def unpacked(raw: "io.BufferedReader[Any]") -> "io.BufferedReader[Any]":
    """Return the unpacked bytes of a stream, as its beginning tells; itself if it is not packed.

    Several packed streams behind each other are one, as pbzip2, pzstd and `cat` make them: the
    stream layer of tarfile would end at the first. Reading damage raises OSError, EOFError,
    zlib.error or lzma.LZMAError.
    """
    start = raw.peek(6)[:6]
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _UNPACKED_BYTES)  # pyright: ignore
    if start.startswith(b"BZh"):
        return io.BufferedReader(bz2.BZ2File(raw), _UNPACKED_BYTES)  # pyright: ignore
    if start.startswith(b"\xfd7zXZ"):
        return io.BufferedReader(lzma.LZMAFile(raw), _UNPACKED_BYTES)  # pyright: ignore
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        packed = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        return io.BufferedReader(packed, _UNPACKED_BYTES)
    return raw


class LocalFile(io.FileIO):
    """A local file whose failed reads raise StoreError too, as those of RangedFile do."""

    def readinto(self, buffer, /) -> int | None:
        with explained(str(self.name), "read"):
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes | None:
        with explained(str(self.name), "read"):
            return super().read(size)


class RangedFile(io.RawIOBase):
    """A remote object of `size` bytes; every read is one range request.

    A failed request raises StoreError, which no decoder mistakes for a damaged archive.
    """

    def __init__(self, uri: str, located: Location, size: int):
        self._uri, self._located, self.size = uri, located, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self.size - self._position)
        n_bytes = left if size < 0 else min(size, left)
        data = read_range(self._uri, self._located, self._position, n_bytes)
        self._position += n_bytes
        return data


def read_range(uri: str, located: Location, start: int, n_bytes: int) -> bytes:
    """Read exactly these bytes. Raises ObjectNotFound or another StoreError.

    A short answer raises too: a cut connection must not look like a truncated image.
    """
    if n_bytes <= 0:
        return b""
    end = start + n_bytes
    with explained(uri, "read"):
        data = located.fs.cat_file(located.path, start=start, end=end)
    if not isinstance(data, bytes) or len(data) != n_bytes:
        raise StoreUnavailable(
            f"{uri}: asked for bytes {start}-{end}, got {len(data)} of {n_bytes}; "
            "the connection was cut or the object changed; try again"
        )
    return data


def _walk(start: str, root: str) -> Iterator[Object]:
    """Files below a local folder, through links too, but never into a folder they are in."""
    # The real folders on the way to each.
    within = {start: (os.path.realpath(root) + "/",)}
    for folder, subfolders, names in os.walk(start, onerror=_raise, followlinks=True):
        here = os.path.realpath(folder) + "/"
        above = (*within.pop(folder, ()), here)
        hidden = [name for name in subfolders if name.startswith(".")]
        for name in hidden:
            yield Object(os.path.join(folder, name) + "/", 0, "hidden", is_regular=False)
        subfolders[:] = [
            name
            for name in subfolders
            if name not in hidden and not _leads_back(os.path.join(folder, name), above)
        ]
        within |= {os.path.join(folder, name): above for name in subfolders}
        for name in names:
            yield _file(os.path.join(folder, name))


def _leads_back(folder: str, above: Sequence[str]) -> bool:
    real = os.path.realpath(folder) + "/"
    return any(one.startswith(real) for one in above)


def _raise(err: OSError) -> None:
    raise err


def _file(path: str) -> Object:
    """A local file that a listing names."""
    try:
        return _local(path, os.stat(path))
    except OSError:  # a link that leads nowhere
        return Object(path, 0, "unreadable", is_regular=False)


def _local(path: str, status: os.stat_result) -> Object:
    etag = f"{status.st_size}-{status.st_mtime_ns}"
    return Object(path, status.st_size, etag, stat.S_ISREG(status.st_mode))


def _remote(located: Location, path: str, entry: Mapping[str, Any]) -> Object:
    version = entry.get("ETag") or entry.get("blob_id")  # S3's, and the Hub's
    etag = str(version or located.fs.ukey(path)).strip('"')
    return Object(path, entry["size"] or 0, etag, entry["type"] == "file")
