"""Byte ranges of one object as a file: the only way the readers touch a shard's bytes."""

import io

from dcd.errors import DataError, StoreError
from dcd.store import locate


class RangedFile(io.RawIOBase):
    """A read-only, seekable view of an object; every read is one range request.

    An answer that is shorter than asked raises StoreError, so that a cut connection is never
    mistaken for a truncated archive. Wrap it in `io.BufferedReader` for small reads.
    """

    def __init__(self, uri: str):
        """Raises DataError if there is no such object, StoreError if the store refuses."""
        self._uri = uri
        located = locate(uri)
        self._fs, self._path = located.fs, located.path
        try:
            self.size: int = self._fs.info(self._path)["size"]
        except FileNotFoundError as err:
            raise DataError(f"{uri}: was listed but is gone; list the shards again") from err
        except OSError as err:
            raise StoreError(f"{uri}: cannot be opened: {err}") from err
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
        data = self._fetch(min(len(view), self.size - self._position))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._fetch(self.size - self._position)

    def _fetch(self, n_bytes: int) -> bytes:
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
