"""From an image source to its shards: a URI, a glob or a folder, local, on S3 or on the Hub."""

import glob
import hashlib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.images.formats import is_image_name, suffix_of
from dcd.sources.archives import (
    archive_format,
    archive_shards,
    archive_suffix,
    archives_among,
    holds_images,
    lies_hidden,
    shard_name,
)
from dcd.sources.class_folders import (
    FolderImages,
    class_pieces,
    images_among,
    is_img2dataset,
    refuse_hive,
)
from dcd.sources.lance import LANCE_SUFFIX, lance_shards
from dcd.sources.mds.images import is_mds, mds_shards
from dcd.sources.mds.index import INDEX_READ
from dcd.sources.objects import Object, find_objects, glob_objects, object_uri, stat_object
from dcd.sources.parquet import LOOKED_INTO
from dcd.sources.passed_over import PassedOver, other_form
from dcd.sources.records import Shard
from dcd.store.errors import explained
from dcd.store.filesystems import Location, locate
from dcd.store.requests import FOUND, MISSED, Requests, listing_requests
from dcd.tables.labels import shown_name

_VERSIONED = re.compile(r"(^|/)(_delta_log/.*\.json|metadata/[^/]*\.metadata\.json(\.gz)?)$")
_BRACES = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")


@dataclass(frozen=True)
class Listing:
    """The shards of a source, sorted by name, and what beside them is no image.

    notes: what was guessed or differs between the files.
    """

    shards: tuple[Shard, ...]
    passed_over: PassedOver
    notes: tuple[str, ...] = ()


def list_shards(data: DataConfig) -> list[Shard]:
    """List the shards of `data.images`, sorted by name. Raises what `look_through` raises."""
    return list(look_through(data).shards)


def look_through(data: DataConfig) -> Listing:
    """List the shards of `data.images`, and count the files that are passed over.

    A file or glob gives one shard a file (tar, Parquet), a manifest (CSV, or Parquet with a
    column `uri` and no image bytes) one for every 10,000 rows. A folder gives its shards of MDS,
    else its tars, else its Parquet files, else pieces of at most 10,000 images of its class
    folders. Raises DataError,
    naming the URI, if nothing matches, the format is unknown, or archives and class folders lie
    side by side.
    """
    uri = data.images
    passed_over = PassedOver()
    notes: list[str] = []
    with explained(uri, "list"):
        try:
            shards = _shards(data, passed_over, notes)
        except FileNotFoundError as err:
            if uri.startswith("hf://"):
                raise  # with what the Hub lacks
            raise DataError(f"{uri}: no such file, folder or bucket{_meant_braces(uri)}") from err
    if not shards and archive_format(uri) == "manifest":
        raise DataError(f"{uri}: is a manifest without rows; expected at least one image")
    if not shards:
        found = f"; {passed_over}" if len(passed_over) else ""
        raise DataError(
            f"{uri}: no image source matches; give a file, a glob or a folder"
            f"{_meant_braces(uri)}{found}{other_form(passed_over.names)}"
        )
    shards.sort(key=lambda shard: shard.name)
    for one, other in pairwise(shards):
        if one.name == other.name:
            raise DataError(f"{one.uri} and {other.uri}: both make the shard name {one.name!r}")
    return Listing(tuple(shards), passed_over, tuple(notes))


def shard_listing_requests(data: DataConfig, shards: Sequence[Shard]) -> Requests:
    """Count what `list_shards` sends for these shards, where they are on an object store.

    Files that lie beside them without being of the source are not known, and not counted.
    """
    n_files = len({shard.uri.partition("#")[0] for shard in shards})
    kind = shards[0].format
    if kind == "folder":
        n_files = sum(shard.n_images or 0 for shard in shards)
    if kind == "mds":  # the folders are those of the indexes
        return MISSED + listing_requests(len(shards) + n_files) + INDEX_READ * n_files
    if glob.has_magic(data.images):
        found = MISSED + listing_requests(n_files)
    elif archive_suffix(data.images):
        found = FOUND * 2
    else:
        found = MISSED + listing_requests(n_files)
    if kind not in ("parquet", "manifest"):
        return found
    return found + LOOKED_INTO * (1 + n_files)  # the first one twice: is it a manifest?


def _shards(data: DataConfig, passed_over: PassedOver, notes: list[str]) -> list[Shard]:
    located = locate(data.images.rstrip("/"))
    fs, path = located.fs, located.path
    if path.lower().endswith(LANCE_SUFFIX):
        name = shard_name(posixpath.basename(path)[: -len(LANCE_SUFFIX)])
        return lance_shards(located, data.images, name)
    if glob.has_magic(path) and not fs.exists(path):
        root = Location(fs, _folder_of_glob(located))
        pattern = Location(fs, glob.escape(root.path) + path[len(root.path) :])
        try:
            matching = glob_objects(pattern)
        except ValueError as err:  # `a**b`
            raise DataError(f"{data.images}: is no glob that can be read ({err})") from err
        files = archives_among(root, matching, data, passed_over)
        return archive_shards(root, files, data, notes)
    if fs.isfile(path):
        root = Location(fs, posixpath.dirname(path))
        files = archives_among(root, [stat_object(located)], data, None)
        return archive_shards(root, files, data, notes)
    return _folder_shards(located, data, passed_over, notes)


def _folder_of_glob(pattern: Location) -> str:
    """The folder that all matches lie in; one that is there is meant, `a [1]` too."""
    parts = pattern.path.split("/")[:-1]
    for n, part in enumerate(parts):
        if glob.has_magic(part) and not pattern.fs.isdir("/".join(parts[: n + 1])):
            return "/".join(parts[:n])
    return "/".join(parts)


def _folder_shards(
    root: Location, data: DataConfig, passed_over: PassedOver, notes: list[str]
) -> list[Shard]:
    """Tars go before Parquet files, which img2dataset writes beside them as metadata."""
    files = find_objects(root)
    _refuse_versioned(data, root, files)
    visible = [item for item in files if not lies_hidden(root, item)]
    tars, tables = (
        [item for item in visible if archive_format(item.path) == kind]
        for kind in ("webdataset", "parquet")
    )
    if is_mds(files):
        pictures = [item for item in visible if is_image_name(item.path)]
        if other := [*tars, *pictures]:
            raise _mds_and_others(data, other)
        return mds_shards(root, files, data, passed_over, notes)
    taken = {item.path for item in (*tars, *tables)}
    rest = [item for item in files if item.path not in taken]
    found = images_among(root, rest, data.label_column, passed_over)
    in_folders = [item for item in found.images if "/" in item.path[len(root.path) + 1 :]]
    if not tars and in_folders and tables and holds_images(object_uri(root, tables[0].path), data):
        raise _two_sources(data, tables, in_folders)
    if tars and in_folders:
        raise _two_sources(data, tars, in_folders)
    archives = tars or ([] if in_folders else tables)
    for item in tables if archives is not tables else []:
        passed_over.add("table", shown_name(item.path[len(root.path) + 1 :]))
    if archives:
        for item in found.images:
            name = shown_name(item.path[len(root.path) + 1 :])
            passed_over.add("loose image" if suffix_of(name) else "no image", name)
        return archive_shards(root, archives, data, notes)
    refuse_hive(data.images, (label for label, _, _ in class_pieces(root, found.images)))
    return [
        _piece_shard(root, found, label, piece, part, data, passed_over)
        for label, piece, part in class_pieces(root, found.images)
    ]


def _piece_shard(
    root: Location,
    found: FolderImages,
    label: str,
    piece: int,
    part: list[Object],
    data: DataConfig,
    passed_over: PassedOver,
) -> Shard:
    beside = [file for item in part for file in found.labels[item.path].values()]
    if not (data.label_column or is_img2dataset(root, label)):
        for file in beside:
            passed_over.add("label file", shown_name(file.path[len(root.path) + 1 :]))
        beside = []
    return Shard(
        name=f"{shard_name(label or 'unlabelled')}-{piece:05d}",
        uri=f"{object_uri(root, posixpath.join(root.path, label))}#{piece:05d}",
        format="folder",
        n_images=len(part),
        etag=_etag([*part, *beside]),
    )


def _two_sources(
    data: DataConfig, archives: Sequence[Object], images: Sequence[Object]
) -> DataError:
    suffix = archive_suffix(archives[0].path)
    return DataError(
        f"{data.images}: holds {len(archives)} archives (such as {archives[0].path}) beside "
        f"{len(images)} images in folders (such as {images[0].path}); name the one that is meant: "
        f"for the archives write {data.images.rstrip('/')}/*{suffix}, for the images move the "
        "archives elsewhere"
    )


def _refuse_versioned(data: DataConfig, root: Location, files: Sequence[Object]) -> None:
    """Raise DataError for a table whose folder also keeps the files of its earlier versions."""
    below = (item.path[len(root.path) + 1 :] for item in files)
    found = next((name for name in below if _VERSIONED.search(name)), None)
    if found is not None:
        raise DataError(
            f"{data.images}: is a table of Delta Lake or Iceberg ({found}), whose folder also "
            "holds rows that were deleted or replaced; write its present rows to plain Parquet"
        )


def _mds_and_others(data: DataConfig, others: Sequence[Object]) -> DataError:
    return DataError(
        f"{data.images}: holds shards of MDS beside {len(others)} other archives or images (such "
        f"as {others[0].path}); move the ones that are not meant elsewhere"
    )


def _meant_braces(uri: str) -> str:
    """A hint where a URI has the braces of shells and of the webdataset library."""
    if not _BRACES.search(uri):
        return ""
    return f"; braces are not expanded: write a glob such as {_BRACES.sub('*', uri)}"


def _etag(files: Sequence[Object]) -> str:
    """One digest of the names, sizes and versions of a piece's files."""
    hashed = hashlib.blake2b(digest_size=16)
    for item in files:
        hashed.update(f"{item.path}\0{item.etag}\n".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()
