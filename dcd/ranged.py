"""Byte ranges of one object as a file: the only way the readers touch a shard's bytes."""

import io
import stat
from pathlib import Path

from dcd.errors import DataError, StoreError
from dcd.filesystems import Located, locate


def open_object(uri: str) -> io.RawIOBase:
    """An object for reading, unbuffered and seekable; wrap it in `io.BufferedReader` for small reads.

    Raises DataError if there is no such object, StoreError if the store refuses.
    """
    located = locate(uri)
    try:
        if "file" not in located.fs.protocol:
            return RangedFile(uri, located, located.fs.info(located.path)["size"])
        if not stat.S_ISREG(Path(located.path).stat().st_mode):  # opening a pipe would hang
            raise DataError(f"{uri}: not a regular file")
        return open(located.path, "rb", buffering=0)
    except FileNotFoundError as err:
        raise DataError(f"{uri}: was listed but is gone; list the shards again") from err
    except OSError as err:
        raise StoreError(f"{uri}: cannot be opened: {err}") from err


class RangedFile(io.RawIOBase):
    """A remote object of `size` bytes; every read is one range request.

    An answer that is shorter than asked raises StoreError, so that a cut connection is never
    mistaken for a truncated archive.
    """

    def __init__(self, uri: str, located: Located, size: int):
        self._uri, self._fs, self._path = uri, located.fs, located.path
        self.size = size
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
        left = self.size - self._position
        n_bytes = left if size < 0 else min(size, left)
        if n_bytes <= 0:
            return b""
        start, end = self._position, self._position + n_bytes
        try:
            data = self._fs.cat_file(self._path, start=start, end=end)
        except OSError as err:
            raise StoreError(f"{self._uri}: bytes {start}-{end} cannot be read: {err}") from err
        if not isinstance(data, bytes) or len(data) != n_bytes:
            raise StoreError(
                f"{self._uri}: asked for bytes {start}-{end}, got {len(data)} of {n_bytes}; "
                "the connection was cut or the object changed; try again"
            )
        self._position = end
        return data
