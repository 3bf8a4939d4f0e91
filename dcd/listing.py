"""From an image source to its shards: a URI, a glob or a folder, local or on S3."""

import glob
import itertools
import os
import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from dcd.config import DataConfig
from dcd.errors import DataError, StoreError
from dcd.filesystems import locate
from dcd.image_files import PIECE_IMAGES, class_files, count_manifest, piece_etag
from dcd.keys import digest, slug
from dcd.parquet_images import count_rows, open_parquet
from dcd.records import Format, Shard, clean_id
from dcd.webdataset import IMAGE_SUFFIXES

_ARCHIVES: dict[str, Format] = {
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
    ".tgz": "webdataset",
    ".tar.bz2": "webdataset",
    ".tar.xz": "webdataset",
    ".parquet": "parquet",
    ".csv": "manifest",
}
_FOOTERS_IN_FLIGHT = 16


def list_shards(data: DataConfig) -> list[Shard]:
    """The shards of `data.images`, sorted by name.

    A file or glob gives one shard a file (tar, Parquet), a manifest one for every 10,000 rows.
    A folder gives its tars, else its Parquet files, else pieces of at most 10,000 files of its
    class folders. Raises DataError, naming the URI, if nothing matches or the format is unknown.
    """
    uri = data.images
    located = locate(uri)
    fs, path = located.fs, located.path.rstrip("/")
    try:
        if glob.has_magic(path) and not fs.exists(path):
            found = _listing(fs.glob(path, detail=True))
            root = posixpath.dirname(path[: _magic_start(path)] + "x")
            shards = _archive_shards(fs, root, found, data)
        elif fs.isfile(path):
            shards = _archive_shards(fs, posixpath.dirname(path), {path: fs.info(path)}, data)
        else:
            shards = _folder_shards(fs, path, data)
    except FileNotFoundError as err:
        raise DataError(f"{uri}: no such file, folder or bucket") from err
    except OSError as err:
        raise StoreError(f"{uri}: cannot be listed: {err}") from err
    if not shards:
        raise DataError(f"{uri}: no image source matches; give a file, a glob or a folder")
    shards.sort(key=lambda shard: shard.name)
    for one, other in itertools.pairwise(shards):
        if one.name == other.name:
            raise DataError(f"{one.uri} and {other.uri}: both make the shard name {one.name!r}")
    return shards


def _archive_shards(
    fs: AbstractFileSystem, root: str, files: Mapping[str, Mapping], data: DataConfig
) -> list[Shard]:
    """One shard a file; all files must be of one format."""
    formats = {path: _format(path) for path in files}
    for path, kind in formats.items():
        if kind is None:
            hint = (
                "name the folder that holds the class folders"
                if path.lower().rpartition(".")[2] in IMAGE_SUFFIXES
                else f"expected {', '.join(_ARCHIVES)}; narrow the glob"
            )
            raise DataError(f"{data.images}: matches {path}, of unknown format; {hint}")
    kinds = set(formats.values())
    if len(kinds) > 1:
        raise DataError(
            f"{data.images}: matches files of several formats {sorted(map(str, kinds))}; "
            "narrow the glob to one"
        )
    if kinds == {"parquet"} and _is_manifest(_uri(fs, min(files)), data):
        kinds = {"manifest"}
    build = _manifest_shards if kinds == {"manifest"} else _file_shards
    with ThreadPoolExecutor(_FOOTERS_IN_FLIGHT, thread_name_prefix="dcd-list") as threads:
        jobs = [threads.submit(build, fs, root, path, files[path]) for path in files]
        return [shard for job in jobs for shard in job.result()]


def _file_shards(fs: AbstractFileSystem, root: str, path: str, entry: Mapping) -> list[Shard]:
    kind, uri = _format(path), _uri(fs, path)
    assert kind is not None
    n_images = count_rows(uri) if kind == "parquet" else None
    return [Shard(_name(_relative(path, root)), uri, kind, n_images, _etag(fs, path, entry))]


def _manifest_shards(fs: AbstractFileSystem, root: str, path: str, entry: Mapping) -> list[Shard]:
    uri, name, etag = _uri(fs, path), _name(_relative(path, root)), _etag(fs, path, entry)
    n_rows = count_manifest(uri)
    return [
        Shard(
            name=f"{name}-{piece:05d}",
            uri=f"{uri}#{piece:05d}",
            format="manifest",
            n_images=min(PIECE_IMAGES, n_rows - piece * PIECE_IMAGES),
            etag=etag,
        )
        for piece in range(-(-n_rows // PIECE_IMAGES))
    ]


def _folder_shards(fs: AbstractFileSystem, root: str, data: DataConfig) -> list[Shard]:
    files = _listing(fs.find(root, detail=True))
    for kind in ("webdataset", "parquet"):
        archives = {path: entry for path, entry in files.items() if _format(path) == kind}
        if archives:
            return _archive_shards(fs, root, archives, data)
    classes = {_relative(path, root).partition("/")[0] for path in files}
    direct = {_relative(path, root) for path in files if "/" not in _relative(path, root)}
    shards = []
    for label in sorted(classes - direct) + ([""] if direct else []):
        members = list(class_files(fs, f"{root}/{label}").items())
        for piece in range(-(-len(members) // PIECE_IMAGES)):
            part = dict(members[piece * PIECE_IMAGES : (piece + 1) * PIECE_IMAGES])
            shards.append(
                Shard(
                    name=f"{_name(label or 'unlabelled')}-{piece:05d}",
                    uri=f"{_uri(fs, f'{root}/{label}')}#{piece:05d}",
                    format="folder",
                    n_images=len(part),
                    etag=piece_etag(part, lambda path, entry: _etag(fs, path, entry)),
                )
            )
    return shards


def _is_manifest(uri: str, data: DataConfig) -> bool:
    """A Parquet file with a `uri` column and without image bytes. Damaged files are no manifest."""
    try:
        names = open_parquet(uri).schema_arrow.names
    except (pa.ArrowException, OSError):
        return False
    return "uri" in names and data.image_column not in names


def _format(path: str) -> Format | None:
    lower = path.lower()
    return next((kind for suffix, kind in _ARCHIVES.items() if lower.endswith(suffix)), None)


def _listing(found: object) -> dict[str, Mapping]:
    """What fsspec lists with `detail`, without folders and hidden files, sorted by path."""
    assert isinstance(found, dict)
    return {
        path: found[path]
        for path in sorted(found)
        if found[path]["type"] != "directory" and posixpath.basename(path)[0] not in "._"
    }


def _relative(path: str, root: str) -> str:
    return path[len(root) :].lstrip("/")


def _name(relative: str) -> str:
    """A path segment that depends on this path alone; altered names get a digest of the path."""
    stem = relative
    for suffix in (".tar", ".parquet", ".csv"):
        stem = stem.removesuffix(suffix)
    safe = slug(stem)
    return safe if safe == stem else f"{safe}-{digest(clean_id(relative), length=8)}"


def _uri(fs: AbstractFileSystem, path: str) -> str:
    """A URI that `locate` opens: plain paths stay plain."""
    return path if "file" in fs.protocol else str(fs.unstrip_protocol(path))


def _etag(fs: AbstractFileSystem, path: str, entry: Mapping) -> str:
    """Changes when the object changes: S3's ETag; local files by size and mtime in ns."""
    if "file" in fs.protocol:
        stat = os.stat(path)
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    return str(entry.get("ETag") or fs.ukey(path)).strip('"')


def _magic_start(path: str) -> int:
    return min(path.find(char) for char in "*?[" if char in path)
