"""Read and write one object store behind `Store(url)`: a local folder or `s3://bucket/prefix`.

All writes publish in one step: a reader sees the whole object or none. Arrow is imported where
tables are read or written: most commands about a store look at names and JSON alone.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from dcd.errors import ObjectUnreadable, StoreError, StoreRefused
from dcd.store import keys
from dcd.store.checksums import ChecksumMismatch, is_sealed, seal_file, sealed, unsealed
from dcd.store.errors import again_if_unread, brief, explained, is_answer, is_unread
from dcd.store.filesystems import arrow_filesystem, locate
from dcd.store.kinds import remedy
from dcd.store.local_files import is_temporary, linked, published

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

    from dcd.store.parquet import ParquetParts

T = TypeVar("T")
_COPIED_AT_ONCE = 8 * 2**20  # bytes
_PROBE = b"written and deleted by the start-up probe"


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it; written: when it was last."""

    key: str
    n_bytes: int
    written: datetime


class Store:
    """Objects under one URL. Keys come from `dcd.store.keys` and never start with a slash.

    Every method raises StoreError, or its StoreRefused and StoreUnavailable, with the URI.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        located = locate(url if not self.url or self.url.endswith(":") else self.url)
        if "hf" in located.fs.protocol:
            raise StoreError(f"{self.url}: a store cannot be on the Hub; name a folder or s3://…")
        self.fs, self.root = located.fs, located.path.rstrip("/")
        self.is_local = "file" in self.fs.protocol
        if self.url != self.url.strip() and not (self.is_local and os.path.lexists(self.root)):
            raise StoreError(f"{url!r} begins or ends with white space; take it away")

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    def path(self, key: str) -> str:
        """Return the path of a key on `self.fs`."""
        return f"{self.root}/{key}"

    def uri(self, key: str) -> str:
        return f"{self.url}/{key}"

    def key_of(self, uri: str) -> str | None:
        """Return the key of a URI; None where it is not in this store."""
        prefix = f"{self.url}/"
        return uri.removeprefix(prefix) if uri.startswith(prefix) else None

    def exists(self, key: str) -> bool:
        """Tell whether the object is there; a mere prefix of others is none."""
        with explained(self.uri(key), "read"):
            try:
                return self.fs.info(self.path(key))["type"] == "file"
            except FileNotFoundError:
                return False

    def keys_under(self, prefix: str) -> list[str]:
        """List all keys below a prefix, sorted, without those that are still being written."""
        path = self.path(prefix)
        if self.is_local and not os.path.isdir(path):
            return []
        # A local folder that cannot be listed must not pass for an empty one.
        strict: dict[str, Any] = {"on_error": "raise"} if self.is_local else {}
        with explained(self.uri(prefix), "list"):
            found = self.fs.find(path, **strict)
        names = [path[len(self.root) + 1 :] for path in found]
        return sorted(name for name in names if not is_temporary(name))

    def objects_under(self, prefix: str = "") -> list[StoredObject]:
        """List all objects below a prefix, by key, without those that are still being written."""
        return [
            StoredObject(key, int(entry["size"]), _written(entry))
            for key, entry in self._entries(prefix).items()
        ]

    def published_at(self, prefix: str) -> dict[str, datetime]:
        """Return when each object below a prefix was last written, by key."""
        return {key: _written(entry) for key, entry in self._entries(prefix).items()}

    def versions_under(self, prefix: str) -> dict[str, str]:
        """Return what tells the objects below a prefix from others under the same keys.

        By key: the etag where the store has one, else size and time of the last write.
        """
        return {
            key: str(entry.get("ETag") or f"{entry['size']}-{entry['mtime']}")
            for key, entry in self._entries(prefix).items()
        }

    def _entries(self, prefix: str) -> dict[str, dict[str, Any]]:
        path = self.path(prefix).rstrip("/")
        if self.is_local and not os.path.isdir(path):
            return {}
        with explained(self.uri(prefix), "list"):
            found: Any = self.fs.find(path, detail=True)
        entries = {name[len(self.root) + 1 :]: entry for name, entry in found.items()}
        return {key: entries[key] for key in sorted(entries) if not is_temporary(key)}

    def read_bytes(self, key: str) -> bytes:
        """Read what was written. Raises ObjectUnreadable if it is damaged, as all readers do."""
        data = self.read_raw(key)
        with self.reading(key):
            return unsealed(key, data)

    def read_raw(self, key: str) -> bytes:
        """Read an object with its checksum, which is not looked at."""
        with explained(self.uri(key), "read"):
            data = self.fs.cat_file(self.path(key))
        assert isinstance(data, bytes)
        return data

    def read_json(self, key: str) -> Any:
        """Read a JSON document."""
        data = self.read_bytes(key)
        try:
            return json.loads(data)
        except ValueError as err:
            raise self.damaged(key, f"is no JSON ({err})") from err

    def write_bytes(self, key: str, data: bytes) -> None:
        """Publish an object in one step, with its checksum; an existing one is replaced."""
        self.write_raw(key, sealed(key, data))

    def write_json(self, key: str, document: Any, indent: int | None = 1) -> None:
        """Publish a JSON document as `write_bytes` does; without `indent` it is one line."""
        self.write_bytes(key, json.dumps(document, indent=indent).encode())

    def write_raw(self, key: str, data: bytes) -> None:
        """Publish bytes in one step as they are."""
        path = self.path(key)
        with explained(self.uri(key), "write"):
            if not self.is_local:
                self.fs.pipe_file(path, data)
                return
            with published(path) as file:
                file.write(data)

    def publish_file(self, local: str | Path, key: str, *, by_link: bool = False) -> None:
        """Publish a finished local file in one step, whatever its size; it gets its checksum.

        by_link: on the store's own disk it is not copied but has two names, and must not change
        afterwards.
        """
        path = self.path(key)
        with explained(self.uri(key), "write"):
            seal_file(Path(local), key)
            if not self.is_local:
                self.fs.put_file(str(local), path)
                return
            if by_link and linked(Path(local), path):
                return
            with published(path) as file, Path(local).open("rb") as source:
                shutil.copyfileobj(source, file, _COPIED_AT_ONCE)

    def read_table(self, key: str, columns: list[str] | None = None) -> "pa.Table":
        """Read a whole Parquet object, or some of its columns."""
        from dcd.store import parquet

        return self._read(key, partial(parquet.read, columns=columns))

    @contextmanager
    def open_parquet(self, key: str) -> "Iterator[ParquetParts]":
        """Open a Parquet object to read parts of it; its footer and each page are checked."""
        from dcd.store import parquet

        with self.reading(key), ExitStack() as sources:

            def opened() -> "pq.ParquetFile":
                source = self.arrow().open_input_file(self.path(key))
                return parquet.opened(sources.enter_context(source))

            yield parquet.ParquetParts(opened, partial(self.reading, key))

    def read_schema(self, key: str) -> "pa.Schema":
        """Read the schema of a Parquet object, with its metadata, without reading its rows."""
        from dcd.store import parquet

        return self._read(key, parquet.schema_of)

    def read_metadata(self, key: str) -> dict[str, str]:
        """Read the key-value metadata of a Parquet object, without reading its rows."""
        found = self.read_schema(key).metadata or {}
        with self.reading(key):
            return {
                name.decode(): value.decode()
                for name, value in found.items()
                if name not in (b"ARROW:schema", b"pandas")
            }

    def write_table(
        self, key: str, table: "pa.Table", *, metadata: dict[str, str] | None = None
    ) -> None:
        """Publish a table as Parquet in one step, with `metadata` in its footer."""
        from dcd.store import parquet

        added = {name.encode(): value.encode() for name, value in (metadata or {}).items()}
        described = table.replace_schema_metadata({**(table.schema.metadata or {}), **added})
        self.write_bytes(key, parquet.encoded(described))

    def check(self, key: str) -> bool:
        """Read an object and check every byte; False where it has no checksum.

        Raises ObjectUnreadable. A large Parquet object costs no memory beyond a piece of it.
        """
        if key.endswith(".parquet"):
            from dcd.store import parquet

            return self._read(key, parquet.check)
        data = self.read_raw(key)
        with self.reading(key):
            unsealed(key, data)
        return is_sealed(key, data)

    def damaged(self, key: str, why: str) -> ObjectUnreadable:
        """Return the error that says why an object is not what was written, and what to do."""
        uri = self.uri(key)
        return ObjectUnreadable(f"{uri}: is damaged: {why}; {remedy(key)}", uri)

    def _read(self, key: str, read: "Callable[[pa.NativeFile], T]") -> T:
        """Open an object through Arrow and read it, again where Arrow could not take an answer."""

        def once() -> T:
            with self.reading(key), self.arrow().open_input_file(self.path(key)) as source:
                return read(source)

        return again_if_unread(once)

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Explain what goes wrong while an object is read, also what a format's reader says.

        Where Arrow lost what the server said, the server is asked by the other client, which tells.
        """
        with explained(self.uri(key), "read"):
            try:
                yield
            except _unreadable() as err:
                raise self.damaged(key, brief(err)) from err
            except OSError as err:
                if is_unread(err):
                    self.fs.cat_file(self.path(key), 0, 1)
                if is_answer(err) or isinstance(err, FileNotFoundError | PermissionError):
                    raise
                raise self.damaged(key, brief(err)) from err

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        with explained(self.uri(key), "delete"), suppress(FileNotFoundError):
            self.fs.rm_file(self.path(key))

    def arrow(self) -> "pafs.FileSystem":
        """Open the store as an Arrow filesystem: it fetches only the row groups that are read."""
        return arrow_filesystem(self.fs)

    def probe(self) -> None:
        """Write, list, read and delete one small object.

        Raises StoreRefused naming every right that is missing, StoreError for other faults.
        """
        key = keys.probe(uuid4().hex)
        missing: list[str] = []
        with _noting(missing):
            self.write_bytes(key, _PROBE)
        with _noting(
            missing
        ):  # after writing: s3fs asks for the right to read too if it finds none
            self.keys_under(keys.PROBES)
        if "write" not in missing:
            with _noting(missing):
                if self.read_bytes(key) != _PROBE:
                    raise StoreError(f"{self.uri(key)}: reads back other bytes than were written")
                self._probe_arrow(key)
            with _noting(missing):
                self.delete(key)
        if missing:
            left = f"; {key} was left behind" if "delete" in missing else ""
            raise StoreRefused(
                f"{self.url}: the right to {' and to '.join(missing)} is missing; grant it or "
                f"check the credentials{left}"
            )

    def _probe_arrow(self, key: str) -> None:
        """Read the probe through Arrow's client too, which must reach the same place."""
        with explained(self.uri(key), "read"):
            try:
                with self.arrow().open_input_file(self.path(key)) as file:
                    data = file.read()
            except FileNotFoundError as err:
                raise StoreError(
                    f"{self.uri(key)}: written through fsspec, not found through Arrow, so the two "
                    "clients reach different servers; set AWS_ENDPOINT_URL_S3 and AWS_REGION"
                ) from err
        if data != _PROBE:
            raise StoreError(f"{self.uri(key)}: reads back other bytes through Arrow")


@contextmanager
def _noting(missing: list[str]) -> Iterator[None]:
    """Go on after a refused right, noting it; wrong credentials end the probe at once."""
    try:
        yield
    except StoreRefused as err:
        if err.right is None:
            raise
        missing.append(err.right)


def _unreadable() -> tuple[type[Exception], ...]:
    """What readers raise for damage: what is Parquet's only once that was imported."""
    of_parquet = getattr(sys.modules.get("dcd.store.parquet"), "UNREADABLE", ())
    return (ChecksumMismatch, UnicodeDecodeError, *of_parquet)


def _written(entry: dict[str, Any]) -> datetime:
    return entry.get("LastModified") or datetime.fromtimestamp(entry["mtime"], UTC)
