"""One object store behind `Store(url)`: a local folder or `s3://bucket/prefix`.

All writes publish in one step: a reader sees the whole object or none. S3 settings are the
standard `AWS_*` environment variables, the same for fsspec, pyarrow and DuckDB.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from dcd.errors import StoreError

_COMPRESSION = "zstd"


@dataclass(frozen=True)
class Located:
    """A path together with the filesystem that it is on."""

    fs: AbstractFileSystem
    path: str


def endpoint_url() -> str | None:
    """The S3 endpoint of the environment; None means the provider's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def locate(uri: str) -> Located:
    """The filesystem and path of a URI or local path; a relative path counts from the cwd."""
    protocol, _, rest = uri.rpartition("://")
    if protocol in ("", "file"):
        return Located(_filesystem("file", None), os.path.abspath(os.path.expanduser(rest)))
    if protocol not in ("s3", "memory"):
        raise StoreError(f"{uri}: cannot open '{protocol}://'; expected a local path or s3://…")
    return Located(_filesystem(protocol, endpoint_url()), rest)


@lru_cache
def _filesystem(protocol: str, endpoint: str | None) -> AbstractFileSystem:
    if protocol != "s3":
        return fsspec.filesystem(protocol)
    # Read-ahead caching multiplies the bytes of column reads (979 MB instead of 1.9 MB, measured).
    return fsspec.filesystem(
        "s3",
        endpoint_url=endpoint,
        default_cache_type="none",
        use_listings_cache=False,
        config_kwargs={"s3": {"addressing_style": "path"}} if endpoint else {},
    )


class Store:
    """Objects under one URL. Keys come from `dcd.keys` and never start with a slash."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        located = locate(self.url)
        self.fs, self.root = located.fs, located.path.rstrip("/")
        self.is_local = "file" in self.fs.protocol

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def path(self, key: str) -> str:
        """Path of a key on `self.fs`."""
        return f"{self.root}/{key}"

    def uri(self, key: str) -> str:
        return f"{self.url}/{key}"

    def exists(self, key: str) -> bool:
        return self.fs.exists(self.path(key))

    def keys_under(self, prefix: str) -> list[str]:
        """All keys below a prefix, sorted."""
        found = self.fs.find(self.path(prefix))
        return sorted(path[len(self.root) + 1 :] for path in found if not path.endswith(".tmp"))

    def read_bytes(self, key: str) -> bytes:
        """Raises StoreError if there is no such object."""
        try:
            return self.fs.cat_file(self.path(key))
        except FileNotFoundError as err:
            raise StoreError(f"{self.uri(key)}: no such object") from err

    def write_bytes(self, key: str, data: bytes) -> None:
        """Publish an object in one step; an existing one is replaced."""
        path = self.path(key)
        if not self.is_local:
            self.fs.pipe_file(path, data)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            temporary.write_bytes(data)
            os.replace(temporary, path)

    def publish_file(self, local: str | Path, key: str) -> None:
        """Publish a finished local file in one step, whatever its size."""
        path = self.path(key)
        if not self.is_local:
            self.fs.put_file(str(local), path)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            self.fs.cp_file(str(local), str(temporary))
            os.replace(temporary, path)

    def read_table(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """A whole Parquet object, or some of its columns. Raises StoreError if it is missing."""
        try:
            return pq.read_table(self.path(key), columns=columns, filesystem=self.arrow())
        except FileNotFoundError as err:
            raise StoreError(f"{self.uri(key)}: no such object") from err

    def read_metadata(self, key: str) -> dict[str, str]:
        """The key-value metadata of a Parquet object, without reading its rows."""
        with self.fs.open(self.path(key), "rb") as file:
            found = pq.read_schema(file).metadata or {}
        return {
            name.decode(): value.decode()
            for name, value in found.items()
            if name not in (b"ARROW:schema", b"pandas")
        }

    def write_table(
        self, key: str, table: pa.Table, *, metadata: dict[str, str] | None = None
    ) -> None:
        """Publish a table as Parquet in one step, with `metadata` in its footer."""
        sink = pa.BufferOutputStream()
        described = table.replace_schema_metadata(
            {
                **(table.schema.metadata or {}),
                **{k: v.encode() for k, v in (metadata or {}).items()},
            }
        )
        pq.write_table(described, sink, compression=_COMPRESSION)
        self.write_bytes(key, sink.getvalue().to_pybytes())

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        if self.exists(key):
            self.fs.rm_file(self.path(key))

    def arrow(self) -> pafs.FileSystem:
        """The same store as an Arrow filesystem: it fetches only the row groups that are read."""
        return _arrow_filesystem("file" if self.is_local else "s3", endpoint_url(), self.fs)


def _arrow_filesystem(
    protocol: str, endpoint: str | None, fs: AbstractFileSystem
) -> pafs.FileSystem:
    if protocol == "file":
        return pafs.LocalFileSystem()
    if "s3" not in fs.protocol:
        return pafs.PyFileSystem(pafs.FSSpecHandler(fs))
    options = {}
    if endpoint:
        scheme, _, host = endpoint.partition("://")
        options = {"scheme": scheme, "endpoint_override": host}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return pafs.S3FileSystem(region=region, **options)


_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def is_transient(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, may go away by itself: network and 5xx."""
    while error is not None:
        response = getattr(error, "response", None)  # botocore's ClientError
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status in _TRANSIENT_STATUS
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and not isinstance(error, _FINAL):
            return error.errno in (None, errno.EIO, errno.EAGAIN, errno.EBUSY)
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _temporary_beside(path: str) -> Iterator[Path]:
    """A temporary path in the folder of `path`, so that os.replace stays on one filesystem."""
    handle, name = tempfile.mkstemp(
        dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.", suffix=".tmp"
    )
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@lru_cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
