"""Images that are objects of their own: folders of class folders, and manifests of URIs."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import pyarrow as pa

from dcd.config import DataConfig
from dcd.errors import DataError, ObjectNotFound, StoreError
from dcd.images.formats import REFUSED, suffix_of
from dcd.sources.class_folders import PIECE_IMAGES, images_among, is_img2dataset
from dcd.sources.objects import OPENED, Object, find_objects, first_there, read_range
from dcd.sources.records import (
    MAX_IMAGE_BYTES,
    ListedImage,
    RawImage,
    Reject,
    Shard,
    label_names,
    short_id,
    too_many_bytes,
    unreadable_label,
)
from dcd.sources.sample_labels import MAX_LABEL_BYTES, sample_label, split_key
from dcd.sources.tables import open_table, refuse_look_alikes
from dcd.store.filesystems import Location, locate
from dcd.store.requests import FOUND, MISSED, Requests, listing_requests
from dcd.tables.labels import (
    LabelColumn,
    clean_id,
    cleaned,
    id_column,
    label_text,
    names_meant,
    shown_name,
    spelling,
)

_IMAGES_AT_ONCE = 32
_NOT_REGULAR = "not a regular file"
_NO_OBJECT = "no such object"
# What else people call the column that names the files, in lower case.
_NAMES_OF_FILES = ("uri", "path", "file_name", "filename", "file", "filepath", "file_path")
_NAMES_OF_FILES += ("image_path", "img_path", "image", "img", "url")
_BACKSLASHES = "; the name has backslashes, as Windows writes paths: write slashes"


@dataclass(frozen=True)
class _Entry:
    """One image that is an object. `location` is None where `problem` says why.

    others: where it may be if it is not there: under the same name in other characters.
    """

    image_id: str
    location: Location | None
    label: str | None = None
    spelling: str | None = None
    label_problem: str | None = None
    n_bytes: int | None = None
    problem: str | None = None
    label_files: Mapping[str, Object] = field(default_factory=dict)  # by suffix
    others: tuple[Location, ...] = ()


def read_folder(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """Yield the images of one piece of a class folder.

    The label is the folder's name, or what the label files beside an image say: see
    `class_folders`.
    """
    return _read_all(_folder_entries(shard, data), data.label_column, wanted)


def read_manifest(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """Yield the images of one piece of a manifest; a relative URI counts from its folder."""
    return _read_all(_manifest_entries(shard, data), None, wanted)


def file_requests(shard: Shard, data: DataConfig) -> Requests:
    """Count what reading one piece of files sends to an object store.

    A manifest counts as one read, whatever its size; a class folder is listed as far as the piece.
    Where label files beside the images are read, every image counts as having one.
    """
    n_images = shard.n_images or 0
    if shard.format == "folder":
        numbered, looks = _is_numbered(shard)
        n_files = n_images * (2 if numbered or data.label_column is not None else 1)
        return looks + listing_requests(n_files) + Requests(n_get=1) * n_files
    return OPENED * 2 + Requests(n_get=2) + Requests(n_get=1, n_head=1) * n_images


def _is_numbered(shard: Shard) -> tuple[bool, Requests]:
    """Whether img2dataset wrote a class folder, and what asking that sends."""
    uri = shard.uri.rpartition("#")[0]
    label = posixpath.basename(uri)
    if not label.isdecimal():
        return False, Requests()
    root = locate(posixpath.dirname(uri))
    found = is_img2dataset(root, label)
    return found, FOUND if found else MISSED * 2


def list_files(shard: Shard, data: DataConfig) -> Iterator[ListedImage | Reject]:
    """List what `read_folder` or `read_manifest` would read, without touching the images."""
    folder = shard.format == "folder"
    for entry in _folder_entries(shard, data) if folder else _manifest_entries(shard, data):
        image_id = short_id(entry.image_id)
        if refused := _refused(entry):
            yield Reject(image_id, "read", refused)
            continue
        labelled = _labelled(entry, data.label_column)
        if labelled.label_problem is not None:
            yield unreadable_label(image_id, labelled.label_problem)
        else:
            yield ListedImage(labelled.image_id, labelled.label, labelled.spelling)


def absent_files(shard: Shard, data: DataConfig, at_most: int) -> Iterator[Reject | None]:
    """Look for the files of a manifest's first rows: None for one that is there.

    Raises StoreError if the store fails.
    """
    for entry in islice(_manifest_entries(shard, data), at_most):
        location = entry.location
        if location is None or _refused(entry):  # `list_files` tells these
            continue
        problem = None
        try:
            problem = None if _found(entry, location)[1].is_regular else _NOT_REGULAR
        except ObjectNotFound:
            problem = _no_object(location)
        yield Reject(short_id(entry.image_id), "read", problem) if problem else None


def _found(entry: _Entry, location: Location) -> tuple[Location, Object]:
    """Look at an image where it is said to be, else under its other names. Raises StoreError."""
    _, place, found = first_there({each.path: each for each in (location, *entry.others)})
    return place, found


def _no_object(location: Location) -> str:
    """Say that an image is not there, and why, where its name was written on Windows."""
    return _NO_OBJECT + (_BACKSLASHES if "\\" in location.path else "")


def _refused(entry: _Entry) -> str | None:
    """Why an image is none, as far as its name tells."""
    if entry.location is None or entry.problem:
        return entry.problem or "no location"
    return REFUSED.get(suffix_of(entry.location.path))


def _folder_entries(shard: Shard, data: DataConfig) -> Iterator[_Entry]:
    uri, _, piece = shard.uri.rpartition("#")
    folder = locate(uri.rstrip("/"))
    label = posixpath.basename(uri)
    root = Location(folder.fs, posixpath.dirname(folder.path)) if label else folder
    below = len(root.path) + 1
    found = images_among(root, find_objects(folder, root), data.label_column)
    images = [item for item in found.images if label or "/" not in item.path[below:]]
    numbered = bool(label) and is_img2dataset(root, label)
    with_files = numbered or data.label_column is not None
    start = int(piece) * PIECE_IMAGES
    class_name = clean_id(label) or None
    return (
        _Entry(
            image_id=clean_id(item.path[below:]),
            location=Location(folder.fs, item.path),
            label=None if numbered else class_name,
            spelling=None if numbered else spelling(shown_name(label), class_name),
            n_bytes=item.n_bytes,
            problem=None if item.is_regular else _NOT_REGULAR,
            label_files=found.labels[item.path] if with_files else {},
        )
        for item in images[start : start + PIECE_IMAGES]
    )


def _manifest_entries(shard: Shard, data: DataConfig) -> Iterator[_Entry]:
    uri, _, piece = shard.uri.rpartition("#")
    start = int(piece) * PIECE_IMAGES
    rows = islice(_manifest_rows(uri, data, start), PIECE_IMAGES)
    folder = uri.rpartition("/")[0]
    return (_manifest_entry(row, f"{shard.name}/{n}", folder) for n, row in enumerate(rows))


def count_manifest(uri: str, data: DataConfig) -> int:
    """Count the rows of a manifest. Raises DataError if it is damaged or has no uri column."""
    return sum(1 for _ in _manifest_rows(uri, data))


@dataclass(frozen=True)
class _Row:
    """A row of a manifest: where the image is, and what else the row says of it.

    written: the URI as the file has it; uri: cleaned.
    """

    written: str | None
    uri: str | None
    image_id: str | None
    label: str | None = None
    spelling: str | None = None
    label_problem: str | None = None


def _manifest_rows(uri: str, data: DataConfig, start: int = 0) -> Iterator[_Row]:
    """The rows of a manifest from `start` on; those before it are read but not made."""
    table = open_table(uri, f"{uri}: not a readable manifest")
    if "uri" not in table.names:
        raise DataError(
            f"{uri}: a manifest needs a column 'uri' (and may have image_id, label); "
            f"found {table.names}; {_meant_column(table.names)}"
        )
    columns = [name for name in label_names(data.label_column) if name in table.names]
    refuse_look_alikes(table.names, ["uri", data.id_column, *columns], uri)
    for whole in table.batches():
        batch = whole.slice(min(start, whole.num_rows))
        start -= whole.num_rows - batch.num_rows
        if batch.num_rows == 0:
            continue
        uris = id_column(batch["uri"]).to_pylist()
        written = _as_written(batch["uri"]) or uris
        ids: list[str | None] = [None] * len(uris)
        if data.id_column in table.names:
            ids = id_column(batch[data.id_column]).to_pylist()
        labels = [cleaned(batch[name], table.code_book(name)) for name in columns]
        for row, (raw, at, image_id) in enumerate(zip(written, uris, ids, strict=True)):
            yield _Row(raw, at, image_id, *_first_label(labels, row))


def _meant_column(names: Sequence[str]) -> str:
    """Say which column of a manifest to rename, where one is likely the images' files."""
    by_folded = {name.casefold(): name for name in names}
    found = next((by_folded[name] for name in _NAMES_OF_FILES if name in by_folded), None)
    return f"rename {found!r} to 'uri'" if found else "rename the one that names the files to 'uri'"


def _as_written(column: pa.Array) -> list[str | None]:
    """A column of text as its file has it; [] where its values are no text."""
    kind = column.type
    if isinstance(kind, pa.DictionaryType):
        column, kind = column.cast(kind.value_type), kind.value_type
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(check(kind) for check in is_text):
        return []
    data = column.cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode("utf-8", "surrogateescape") for text in data]


def _first_label(
    columns: Sequence[LabelColumn], row: int
) -> tuple[str | None, str | None, str | None]:
    """Label, spelling and fault of a row: of the first column that is not blank there."""
    for column in columns:
        label, reason = column.row(row)
        if label is not None or reason is not None:
            return label, column.spelling(row), reason
    return None, None, None


def _manifest_entry(row: _Row, by_row: str, folder: str) -> _Entry:
    uri = row.uri
    if not uri:
        return _Entry(by_row, None, problem="no uri in its row")
    image_id = row.image_id or _without_secrets(uri)
    try:
        location, *others = [locate(_absolute(n, folder)) for n in names_meant(row.written or uri)]
        problem = None
    except StoreError as err:
        location, others, problem = None, [], str(err)
    return _Entry(
        image_id,
        location,
        row.label,
        row.spelling,
        row.label_problem,
        problem=problem,
        others=tuple(others),
    )


def _absolute(uri: str, folder: str) -> str:
    is_absolute = "://" in uri or uri.lstrip().startswith(("/", "file:/"))
    return uri if is_absolute else f"{folder}/{uri}"


def _without_secrets(uri: str) -> str:
    """A URI of a kind that is refused, without what a web address may hold: a password, a token."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() == "file":
        return uri
    host, slash, path = rest.partition("/")
    if scheme.lower() in ("http", "https"):
        path = path.partition("?")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _labelled(entry: _Entry, label_column: str | None) -> _Entry:
    """The entry with the label that the files beside the image say, where there are any.

    Raises StoreError.
    """
    location = entry.location
    if not entry.label_files or location is None:
        return entry

    def content(suffix: str) -> bytes:
        item = entry.label_files[suffix]
        if not item.is_regular or item.n_bytes > MAX_LABEL_BYTES:
            raise ValueError(f".{suffix}: no regular file of at most {MAX_LABEL_BYTES} bytes")
        return read_range(item.path, Location(location.fs, item.path), 0, item.n_bytes)

    stem = split_key(location.path)[1].rpartition(".")[0]
    try:
        value = sample_label(entry.label_files, content, stem, label_column)
    except (ValueError, RecursionError, ObjectNotFound) as err:
        return replace(entry, label_problem=str(err))
    if value is None:
        return entry
    label = label_text(value)
    return replace(entry, label=label, spelling=spelling(value, label))


def _read_all(
    entries: Iterator[_Entry], label_column: str | None, wanted: frozenset[str] | None
) -> Iterator[RawImage | Reject]:
    """Read in order, `_IMAGES_AT_ONCE` at a time, so that an object store's latency is shared."""
    if wanted is not None:
        entries = (entry for entry in entries if entry.image_id in wanted)
    with ThreadPoolExecutor(_IMAGES_AT_ONCE, thread_name_prefix="dcd-read") as threads:
        while window := list(islice(entries, _IMAGES_AT_ONCE)):
            yield from threads.map(partial(_read_one, label_column=label_column), window)


def _read_one(entry: _Entry, label_column: str | None) -> RawImage | Reject:
    """Raises StoreError where the store fails; what is wrong with the image becomes a reject."""
    image_id = short_id(entry.image_id)
    n_bytes, location = entry.n_bytes, entry.location
    problem = _refused(entry)
    if location is None or problem:
        return Reject(image_id, "read", problem or "no location")
    try:
        if n_bytes is None:
            location, found = _found(entry, location)
            n_bytes = found.n_bytes
            problem = None if found.is_regular else _NOT_REGULAR
        if n_bytes > MAX_IMAGE_BYTES:
            problem = too_many_bytes(n_bytes, MAX_IMAGE_BYTES)
        if problem:
            return Reject(image_id, "read", problem)
        data = read_range(location.path, location, 0, n_bytes)
    except ObjectNotFound:
        return Reject(image_id, "read", _no_object(location))
    entry = _labelled(entry, label_column)
    if entry.label_problem is not None:
        return unreadable_label(image_id, entry.label_problem)
    return RawImage(image_id, data, entry.label, entry.spelling)
