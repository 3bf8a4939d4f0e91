"""Archives of images by their suffix: tars, Parquet files and manifests, and the shards of each.

The one place where suffixes of archives are compared, in lower case.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from dcd.config import DataConfig
from dcd.errors import DataError, LabelError
from dcd.images.formats import is_image_name
from dcd.sources.class_folders import PIECE_IMAGES
from dcd.sources.files import count_manifest
from dcd.sources.objects import Object, object_uri
from dcd.sources.parquet import UNREADABLE, Footer, open_parquet, read_footer
from dcd.sources.parquet_cells import OTHER_IMAGE_COLUMNS
from dcd.sources.passed_over import PassedOver, is_hidden, other_form, why_no_image
from dcd.sources.records import LABEL_COLUMNS, Format, Shard, label_names
from dcd.sources.tables import PARQUET_SUFFIXES, TEXT_TABLES
from dcd.store.filesystems import Location
from dcd.store.keys import digest, slug
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.tables.labels import shown_name

ARCHIVES: dict[str, Format] = {
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
    ".tgz": "webdataset",
    ".tar.bz2": "webdataset",
    ".tbz2": "webdataset",
    ".tar.xz": "webdataset",
    ".txz": "webdataset",
    ".tar.zst": "webdataset",
    ".tzst": "webdataset",
    **dict.fromkeys(PARQUET_SUFFIXES, "parquet"),
    **dict.fromkeys(TEXT_TABLES, "manifest"),
}
READS_ARCHIVES = (
    "archives are .tar, also as .gz, .bz2, .xz or .zst, .parquet, and manifests as .csv or .tsv, "
    "also packed"
)
_HIVE = re.compile(r"(?:^|/)(\w+)=([^/]*)(?=/)")


def archives_among(
    root: Location, files: Sequence[Object], data: DataConfig, passed_over: PassedOver | None
) -> list[Object]:
    """Return the archives that a URI names. Raises DataError for images, or if there is none."""
    archives = [item for item in files if archive_format(item.path) and not lies_hidden(root, item)]
    others = [item for item in files if item not in archives]
    images = [item for item in others if is_image_name(item.path)]
    if images or (others and (passed_over is None or not archives)):
        path = (images or others)[0].path
        raise DataError(
            f"{data.images}: matches {path}, of unknown format; "
            + ("name the folder of class folders" if images else "narrow the glob")
            + f"; {READS_ARCHIVES}{other_form([path])}"
        )
    for item in others:
        name = shown_name(item.path[len(root.path) + 1 :])
        if passed_over is not None:
            passed_over.add(why_no_image(name, item.n_bytes, by_suffix=True) or "no image", name)
    return archives


def lies_hidden(root: Location, item: Object) -> bool:
    return is_hidden(item.path[len(root.path) + 1 :])


def archive_shards(
    root: Location, files: Sequence[Object], data: DataConfig, notes: list[str]
) -> list[Shard]:
    """Make one shard of a file, or several of a manifest; all files must be of one format.

    `notes` gets what differs between the files.
    """
    kinds = {archive_format(item.path) for item in files}
    if len(kinds) > 1:
        raise DataError(
            f"{data.images}: matches files of several formats {sorted(map(str, kinds))}; "
            "narrow the glob to one"
        )
    if not files:
        return []
    if kinds == {"parquet"}:
        uri = object_uri(root, files[0].path)
        if _is_manifest(uri, data):
            kinds = {"manifest"}
        else:
            _refuse_hive_column(uri, data)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="dcd-list") as threads:
        if kinds == {"manifest"}:
            found = threads.map(partial(_manifest_shards, root, data), files)
            return list(chain.from_iterable(found))
        uris = [object_uri(root, item.path) for item in files]
        footers = [Footer()] * len(files)
        if kinds == {"parquet"}:
            footers = list(threads.map(partial(read_footer, data=data), uris))
            refuse_mixed_codes(uris, footers)
            notes += column_notes(uris, footers)
    return [
        Shard(
            shard_name(item.path[len(root.path) :]),
            uri,
            archive_format(item.path) or "parquet",
            footer.n_rows,
            item.etag,
        )
        for item, uri, footer in zip(files, uris, footers, strict=True)
    ]


def refuse_mixed_codes(uris: Sequence[str], footers: Sequence[Footer]) -> None:
    """Raise LabelError if some files name the codes of their labels and others do not."""
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


def column_notes(uris: Sequence[str], footers: Sequence[Footer]) -> Iterator[str]:
    """Tell of rows without image, and of files that do not have the labels in the same column."""
    found = [(uri, footer) for uri, footer in zip(uris, footers, strict=True) if footer.is_read]
    both = [uri for uri, footer in found if footer.other_label_column]
    if both:
        one, other = LABEL_COLUMNS
        yield (
            f"{len(both):,} of {len(found):,} files, such as {both[0]}, have the columns {one} and "
            f"{other}: {one} is taken; label_column names another"
        )
    n_lacking = sum(footer.n_without_bytes for _, footer in found)
    if n_lacking:
        n_rows = sum(footer.n_rows or 0 for _, footer in found)
        yield (
            f"{n_lacking:,} of {n_rows:,} rows hold no image bytes: those that name a file beside "
            "their table are read from it, others are rejects"
        )
    of: dict[str | None, list[str]] = {}
    for uri, footer in found:
        of.setdefault(footer.label_column, []).append(uri)
    if len(of) > 1:
        told = ", ".join(
            f"{len(files):,} {'none' if column is None else column} (such as {files[0]})"
            for column, files in of.items()
        )
        yield f"the files have different label columns: {told}"


def _manifest_shards(root: Location, data: DataConfig, item: Object) -> list[Shard]:
    uri, name = object_uri(root, item.path), shard_name(item.path[len(root.path) :])
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


def _refuse_hive_column(uri: str, data: DataConfig) -> None:
    """Raises DataError where the label stands in a folder's name alone, `label=cat/0.parquet`."""
    folders = dict(_HIVE.findall(uri))
    label = next((c for c in label_names(data.label_column) if c in folders), None)
    if label is not None and label not in _column_names(uri):
        raise DataError(
            f"{data.images}: {uri} lies in a Hive partition, and the names of folders are not read "
            f"as columns; write the column {label!r} into the files, or give a labels table"
        )


def _is_manifest(uri: str, data: DataConfig) -> bool:
    """A Parquet file with a `uri` column and without image bytes. Damaged files are no manifest."""
    names = _column_names(uri)
    return "uri" in names and data.image_column not in names


def holds_images(uri: str, data: DataConfig) -> bool:
    names = _column_names(uri)
    return any(name in names for name in (data.image_column, *OTHER_IMAGE_COLUMNS))


def _column_names(uri: str) -> list[str]:
    """Of a Parquet file; none where it is damaged."""
    try:
        return open_parquet(uri).schema_arrow.names
    except UNREADABLE:
        return []


def archive_suffix(path: str) -> str | None:
    return next((suffix for suffix in ARCHIVES if path.lower().endswith(suffix)), None)


def archive_format(path: str) -> Format | None:
    suffix = archive_suffix(path)
    return ARCHIVES[suffix] if suffix else None


def shard_name(relative: str) -> str:
    """Make a path segment of this path alone; altered names get a digest of the path."""
    stem = relative.lstrip("/")
    stem = stem[: len(stem) - len(archive_suffix(stem) or "")]
    safe = slug(stem)
    return safe if safe == stem else f"{safe}-{digest(shown_name(relative), length=8)}"
