"""Images that are objects of their own: folders of class folders, and manifests of URIs."""

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.csv as pacsv
from fsspec.spec import AbstractFileSystem

from dcd.config import DataConfig
from dcd.errors import DataError, StoreError
from dcd.filesystems import Located, locate
from dcd.parquet_images import open_parquet
from dcd.records import (
    LABEL_COLUMNS,
    MAX_IMAGE_BYTES,
    RawImage,
    Reject,
    Shard,
    clean_id,
    label_text,
    short_id,
)

PIECE_IMAGES = 10_000
_IN_FLIGHT = 32


@dataclass(frozen=True)
class _Entry:
    """One image that is an object. `location` is None where `problem` says why."""

    image_id: str
    location: Located | None
    label: object
    n_bytes: int | None = None
    problem: str | None = None


def class_files(fs: AbstractFileSystem, path: str) -> dict[str, Mapping]:
    """Files of one class folder, sorted, as path → listing entry; hidden ones are skipped.

    A trailing slash stands for the files directly in the folder, which have no class.
    """
    if path.endswith("/"):
        found = {entry["name"]: entry for entry in fs.ls(path.rstrip("/"), detail=True)}
    else:
        found = fs.find(path, detail=True)
    return {
        name: found[name]
        for name in sorted(found)
        if found[name]["type"] != "directory" and not posixpath.basename(name).startswith(".")
    }


def piece_etag(files: Mapping[str, Mapping], etag: Callable[[str, Mapping], str]) -> str:
    """One digest of the names, sizes and versions of a piece's files."""
    digest = hashlib.blake2b(digest_size=16)
    for path, entry in files.items():
        digest.update(f"{path}\0{entry['size']}\0{etag(path, entry)}\n".encode("utf-8", "replace"))
    return digest.hexdigest()


def read_folder(shard: Shard, wanted: frozenset[str] | None = None) -> Iterator[RawImage | Reject]:
    """The files of one piece of a class folder; the label is the folder's name."""
    uri, _, piece = shard.uri.rpartition("#")
    located = locate(uri.rstrip("/"))
    label = posixpath.basename(uri) or None
    folder = located.path + ("" if label else "/")
    start = int(piece) * PIECE_IMAGES
    prefix = f"{label}/" if label else ""
    below = len(located.path) + 1
    entries = (
        _Entry(
            image_id=clean_id(prefix + path[below:]),
            location=Located(located.fs, path),
            label=label and clean_id(label),
            n_bytes=entry["size"],
            problem=None if entry["type"] == "file" else "not a regular file",
        )
        for path, entry in islice(
            class_files(located.fs, folder).items(), start, start + PIECE_IMAGES
        )
    )
    return _read_all(entry for entry in entries if wanted is None or entry.image_id in wanted)


def read_manifest(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """The images that one piece of a manifest names; a relative URI counts from its folder."""
    uri, _, piece = shard.uri.rpartition("#")
    start = int(piece) * PIECE_IMAGES
    rows = islice(_manifest_rows(uri), start, start + PIECE_IMAGES)
    labels = (data.label_column,) if data.label_column else LABEL_COLUMNS
    entries = (
        _manifest_entry(row, f"{shard.name}/{number}", data.id_column, labels, uri)
        for number, row in enumerate(rows, start)
    )
    return _read_all(entry for entry in entries if wanted is None or entry.image_id in wanted)


def count_manifest(uri: str) -> int:
    """Rows of a manifest. Raises DataError if it is damaged or has no uri column."""
    return sum(1 for _ in _manifest_rows(uri))


def _manifest_rows(uri: str) -> Iterator[dict[str, object]]:
    try:
        if uri.lower().endswith(".csv"):
            located = locate(uri)
            with located.fs.open(located.path, "rb", cache_type="readahead") as file:
                names = pacsv.open_csv(file).schema.names
                file.seek(0)
                text = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
                for batch in pacsv.open_csv(file, convert_options=text):
                    yield from _checked(batch, uri).to_pylist()
        else:
            for batch in open_parquet(uri).iter_batches(use_threads=False):
                yield from _checked(batch, uri).to_pylist()
    except (pa.ArrowException, OSError) as err:
        raise DataError(f"{uri}: not a readable manifest: {err}") from err


def _checked(batch: pa.RecordBatch, uri: str) -> pa.RecordBatch:
    if "uri" not in batch.schema.names:
        raise DataError(
            f"{uri}: a manifest needs a column 'uri' (and may have image_id, label); "
            f"found {batch.schema.names}"
        )
    return batch


def _manifest_entry(
    row: Mapping[str, object], by_row: str, id_column: str, labels: tuple[str, ...], manifest: str
) -> _Entry:
    uri = row["uri"]
    if not isinstance(uri, str) or not uri:
        return _Entry(by_row, None, None, problem="no uri in its row")
    image_id = str(row.get(id_column) or uri)
    label = next((row[name] for name in labels if row.get(name) not in (None, "")), None)
    if "://" not in uri and not uri.startswith("/"):
        uri = f"{manifest.rpartition('/')[0]}/{uri}"
    try:
        return _Entry(image_id, locate(uri), label)
    except StoreError as err:
        return _Entry(image_id, None, label, problem=str(err))


def _read_all(entries: Iterator[_Entry]) -> Iterator[RawImage | Reject]:
    """Read in order, `_IN_FLIGHT` at a time, so that an object store's latency is shared."""
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="dcd-read") as threads:
        while window := list(islice(entries, _IN_FLIGHT)):
            yield from threads.map(_read_one, window)


def _read_one(entry: _Entry) -> RawImage | Reject:
    image_id = short_id(entry.image_id)
    if entry.location is None or entry.problem:
        return Reject(image_id, "read", entry.problem or "no location")
    fs, path = entry.location.fs, entry.location.path
    try:
        n_bytes = entry.n_bytes
        if n_bytes is None:
            info = fs.info(path)
            if info["type"] != "file":
                return Reject(image_id, "read", "not a regular file")
            n_bytes = info["size"]
        if n_bytes > MAX_IMAGE_BYTES:
            return Reject(image_id, "read", f"{n_bytes} bytes, at most {MAX_IMAGE_BYTES} allowed")
        data = fs.cat_file(path, start=0, end=n_bytes) if n_bytes else b""
        if not isinstance(data, bytes) or len(data) != n_bytes:
            raise StoreError(f"{path}: got {len(data)} of {n_bytes} bytes; try again")
        return RawImage(image_id, data, label_text(entry.label))
    except FileNotFoundError:
        return Reject(image_id, "read", "no such object")
    except PermissionError:
        return Reject(image_id, "read", "permission denied")
    except OSError as err:
        raise StoreError(f"{path}: cannot be read: {err}") from err
    except ValueError as err:
        return Reject(image_id, "label", f"unreadable label: {err}"[:200])
