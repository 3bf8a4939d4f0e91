"""From an image source to its shards: a URI, a glob or a folder, local or on S3."""

import glob
import hashlib
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise

import pyarrow as pa

from dcd.config import DataConfig
from dcd.errors import DataError, LabelError
from dcd.sources.files import PIECE_IMAGES, class_pieces, count_manifest
from dcd.sources.objects import Object, find_objects, glob_objects, object_uri, stat_object
from dcd.sources.parquet import LOOKED_INTO, Footer, open_parquet, read_footer
from dcd.sources.records import Format, Shard
from dcd.sources.webdataset import IMAGE_SUFFIXES
from dcd.store.errors import explained
from dcd.store.filesystems import Located, locate
from dcd.store.keys import digest, slug
from dcd.store.requests import FOUND, MISSED, Requests
from dcd.store.requests import listing_requests as keys_requests
from dcd.tables.labels import shown_name

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

    A file or glob gives one shard a file (tar, Parquet), a manifest (CSV, or Parquet with a
    column `uri` and no image bytes) one for every 10,000 rows. A folder gives its tars, else its
    Parquet files, else pieces of at most 10,000 files of its class folders. Raises DataError,
    naming the URI, if nothing matches or the format is unknown.
    """
    uri = data.images
    with explained(uri, "list"):
        try:
            shards = _shards(data)
        except FileNotFoundError as err:
            raise DataError(f"{uri}: no such file, folder or bucket") from err
    if not shards:
        raise DataError(f"{uri}: no image source matches; give a file, a glob or a folder")
    shards.sort(key=lambda shard: shard.name)
    for one, other in pairwise(shards):
        if one.name == other.name:
            raise DataError(f"{one.uri} and {other.uri}: both make the shard name {one.name!r}")
    return shards


def listing_requests(data: DataConfig, shards: Sequence[Shard]) -> Requests:
    """What `list_shards` sends for the shards it has found, where they are on an object store.

    Files that lie beside them without being of the source are not known, and not counted.
    """
    n_files = len({shard.uri.partition("#")[0] for shard in shards})
    kind = shards[0].format
    if kind == "folder":
        n_files = sum(shard.n_images or 0 for shard in shards)
    if glob.has_magic(data.images):
        found = MISSED + keys_requests(n_files)
    elif _suffix(data.images):
        found = FOUND * 2
    else:
        found = MISSED + keys_requests(n_files)
    if kind not in ("parquet", "manifest"):
        return found
    return found + LOOKED_INTO * (1 + n_files)  # the first one twice: is it a manifest?


def _shards(data: DataConfig) -> list[Shard]:
    located = locate(data.images.rstrip("/"))
    fs, path = located.fs, located.path
    if glob.has_magic(path) and not fs.exists(path):
        fixed = path[: min(path.find(char) for char in "*?[" if char in path)]
        root = Located(fs, posixpath.dirname(fixed + "x"))
        return _archive_shards(root, glob_objects(located), data)
    if fs.isfile(path):
        return _archive_shards(Located(fs, posixpath.dirname(path)), [stat_object(located)], data)
    return _folder_shards(located, data)


def _archive_shards(root: Located, files: Sequence[Object], data: DataConfig) -> list[Shard]:
    """One shard a file, or several a manifest; all files must be of one format."""
    formats = {item.path: _format(item.path) for item in files}
    for path, kind in formats.items():
        if kind is None:
            is_image = path.lower().rpartition(".")[2] in IMAGE_SUFFIXES
            raise DataError(
                f"{data.images}: matches {path}, of unknown format; "
                + ("name the folder of class folders" if is_image else "narrow the glob")
                + f"; archives end in {', '.join(_ARCHIVES)}"
            )
    kinds = set(formats.values())
    if len(kinds) > 1:
        raise DataError(
            f"{data.images}: matches files of several formats {sorted(map(str, kinds))}; "
            "narrow the glob to one"
        )
    if kinds == {"parquet"} and _is_manifest(object_uri(root, files[0].path), data):
        kinds = {"manifest"}
    with ThreadPoolExecutor(_FOOTERS_IN_FLIGHT, thread_name_prefix="dcd-list") as threads:
        if kinds == {"manifest"}:
            found = threads.map(partial(_manifest_shards, root, data), files)
            return list(chain.from_iterable(found))
        uris = [object_uri(root, item.path) for item in files]
        footers = [Footer()] * len(files)
        if kinds == {"parquet"}:
            footers = list(threads.map(partial(read_footer, data=data), uris))
            _refuse_mixed_codes(uris, footers)
    return [
        Shard(
            _name(item.path[len(root.path) :]),
            uri,
            formats[item.path] or "parquet",
            footer.n_rows,
            item.etag,
        )
        for item, uri, footer in zip(files, uris, footers, strict=True)
    ]


def _refuse_mixed_codes(uris: Sequence[str], footers: Sequence[Footer]) -> None:
    """Raises LabelError if some files name the codes of their labels and others do not."""
    of = {footer.labels: uri for uri, footer in zip(uris, footers, strict=True)}
    if "bare codes" not in of or not {"named codes", "text"} & of.keys():
        return
    named = of.get("named codes") or of["text"]
    n_bare = sum(footer.labels == "bare codes" for footer in footers)
    raise LabelError(
        f"{of['bare codes']}: its labels are bare numbers, those of {named} have names "
        f"({n_bare} of {len(uris)} files have numbers alone): nothing tells which number means "
        "which name; write the names into all files, or give a `labels` table"
    )


def _manifest_shards(root: Located, data: DataConfig, item: Object) -> list[Shard]:
    uri, name = object_uri(root, item.path), _name(item.path[len(root.path) :])
    n_rows = count_manifest(uri, data)
    return [
        Shard(
            name=f"{name}-{piece:05d}",
            uri=f"{uri}#{piece:05d}",
            format="manifest",
            n_images=min(PIECE_IMAGES, n_rows - start),
            etag=item.etag,
        )
        for piece, start in enumerate(range(0, n_rows, PIECE_IMAGES))
    ]


def _folder_shards(root: Located, data: DataConfig) -> list[Shard]:
    """Tars go before Parquet files, which img2dataset writes beside them as metadata."""
    files = find_objects(root)
    for kind in ("webdataset", "parquet"):
        if archives := [item for item in files if _format(item.path) == kind]:
            return _archive_shards(root, archives, data)
    return [
        Shard(
            name=f"{_name(label or 'unlabelled')}-{piece:05d}",
            uri=f"{object_uri(root, posixpath.join(root.path, label))}#{piece:05d}",
            format="folder",
            n_images=len(part),
            etag=_etag(part),
        )
        for label, piece, part in class_pieces(root, files)
    ]


def _etag(files: Sequence[Object]) -> str:
    """One digest of the names, sizes and versions of a piece's files."""
    hashed = hashlib.blake2b(digest_size=16)
    for item in files:
        hashed.update(f"{item.path}\0{item.etag}\n".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()


def _is_manifest(uri: str, data: DataConfig) -> bool:
    """A Parquet file with a `uri` column and without image bytes. Damaged files are no manifest."""
    try:
        names = open_parquet(uri).schema_arrow.names
    except (pa.ArrowException, OSError):
        return False
    return "uri" in names and data.image_column not in names


def _suffix(path: str) -> str | None:
    return next((suffix for suffix in _ARCHIVES if path.lower().endswith(suffix)), None)


def _format(path: str) -> Format | None:
    suffix = _suffix(path)
    return _ARCHIVES[suffix] if suffix else None


def _name(relative: str) -> str:
    """A path segment that depends on this path alone; altered names get a digest of the path."""
    stem = relative.lstrip("/")
    stem = stem[: len(stem) - len(_suffix(stem) or "")]
    safe = slug(stem)
    return safe if safe == stem else f"{safe}-{digest(shown_name(relative), length=8)}"
