"""The images of MDS folders: an index's shards are ours, its samples are images or rejects."""

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.archives import column_notes, lies_hidden, refuse_mixed_codes, shard_name
from dcd.sources.mds.index import (
    COMPRESSIONS,
    INDEX,
    MdsShard,
    ShardFile,
    find_shard,
    is_shard_file,
    read_index,
    schema_of,
    shard_columns,
)
from dcd.sources.mds.samples import (
    Damage,
    Samples,
    Span,
    image_of,
    opened,
    unchecked_hashes,
    value_of,
)
from dcd.sources.objects import Object, is_local, object_uri
from dcd.sources.parquet import Footer
from dcd.sources.parquet_cells import Columns, label_columns, label_form
from dcd.sources.passed_over import PassedOver, why_no_image
from dcd.sources.records import (
    MAX_ID_CHARS,
    MAX_IMAGE_BYTES,
    ListedImage,
    RawImage,
    Reject,
    Shard,
    short_id,
    too_long_id,
    too_many_bytes,
    unreadable_label,
    without_id,
)
from dcd.store.filesystems import Location, locate
from dcd.store.keys import digest
from dcd.tables.labels import id_text, label_text, shown_name, spelling


@dataclass(frozen=True)
class _Entry:
    """A shard as its index tells it, and which of its files lies there."""

    shard: MdsShard
    file: ShardFile
    columns: Columns
    uri: str


def is_mds(files: Sequence[Object]) -> bool:
    """Tell whether shards of MDS and an index are among the files of a folder."""
    has_index = any(posixpath.basename(item.path) == INDEX for item in files)
    return has_index and any(is_shard_file(item.path) for item in files)


def mds_shards(
    root: Location,
    files: Sequence[Object],
    data: DataConfig,
    passed_over: PassedOver,
    notes: list[str],
) -> list[Shard]:
    """Make a shard of each that the indexes below `root` name; an index stands for all below it.

    files: all that lie there. `notes` gets what was guessed, `passed_over` what no index
    names. Raises DataError if a file is missing or columns are not there.
    """
    shown = [item for item in files if not lies_hidden(root, item)]
    there = {item.path: item for item in shown}
    folders = _indexed(there)
    if len(folders) > 1:
        told = ", ".join(shown_name(one[len(root.path) + 1 :]) for one in folders[:5])
        notes.append(f"holds {len(folders)} sets of MDS (such as {told}); all are taken")
    shards, entries, named = [], [], set()
    for folder in folders:
        uri = object_uri(root, folder)
        for entry in read_index(uri):
            item = _file_of(folder, entry, there, uri)
            named |= {posixpath.normpath(f"{folder}/{one.basename}") for one in entry.files}
            inside = item.path[len(root.path) + 1 :]
            shards.append(
                Shard(
                    shard_name(posixpath.normpath(inside).partition(".mds")[0]),
                    f"{uri}#{item.path[len(folder) + 1 :]}",
                    "mds",
                    entry.samples,
                    digest(entry.model_dump_json() + item.etag),
                )
            )
            entries.append((shards[-1].uri, entry))
    _compare_columns(entries, data, notes)
    for item in files:
        is_part = posixpath.basename(item.path) == INDEX and item in shown  # of what was merged
        if item.path not in named and not is_part:
            name = shown_name(item.path[len(root.path) + 1 :])
            why = why_no_image(name, item.n_bytes, by_suffix=True)
            passed_over.add(why or "loose image", name)
    return shards


def read_mds(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """Yield the images of a shard in the order of its samples; with `wanted`, only these ids.

    A shard that is not what its index says is a reject for each sample; its digest is compared
    where all is read. Raises DataError if the columns are not there, StoreError if the store fails.
    """
    entry = _entry(shard, data)
    with ExitStack() as stack:
        samples = _samples(stack, entry, check=wanted is None)
        for row in range(entry.shard.samples):
            if isinstance(samples, Damage):
                yield _lost(shard, row, samples)
                continue
            listed, spans = _listed(samples, entry, shard, row)
            if wanted is not None and listed.image_id not in wanted:
                continue
            if isinstance(listed, Reject):
                yield listed
            else:
                yield _image(samples, entry, listed, spans[entry.columns.image])


def list_mds(shard: Shard, data: DataConfig) -> Iterator[ListedImage | Reject]:
    """List what `read_mds` would read, from the id and label columns alone."""
    entry = _entry(shard, data)
    with ExitStack() as stack:
        samples = _samples(stack, entry, check=False)
        for row in range(entry.shard.samples):
            if isinstance(samples, Damage):
                yield _lost(shard, row, samples)
            else:
                yield _listed(samples, entry, shard, row)[0]


def shard_file(shard: Shard) -> ShardFile:
    """Return the file of a shard. Raises DataError if its index does not name it any more."""
    return _found(shard)[1]


def bytes_to_list(shard: Shard) -> int:
    """Count the bytes that `list_mds` reads, for a shard that is not read where it lies."""
    entry, file = _found(shard)
    in_place = is_local(locate(shard.uri.rpartition("#")[0])) and file is entry.raw_data
    return 0 if in_place else file.bytes


def _indexed(there: dict[str, Object]) -> list[str]:
    """Folders with an index and none above it."""
    folders = sorted(posixpath.dirname(path) for path in there if posixpath.basename(path) == INDEX)
    top: list[str] = []
    for folder in folders:
        if not any(folder.startswith(f"{one}/") for one in top):
            top.append(folder)
    return top


def _file_of(folder: str, entry: MdsShard, there: dict[str, Object], uri: str) -> Object:
    """The file of a shard that lies there, the unpacked one first."""
    for file in entry.files:
        item = there.get(posixpath.normpath(f"{folder}/{file.basename}"))
        if item is None or not item.is_regular:
            continue
        if file is entry.zip_data and entry.codec not in COMPRESSIONS:
            raise DataError(
                f"{uri}: {file.basename} is compressed with {entry.codec!r}; "
                f"{', '.join(COMPRESSIONS)} are read; write it with one of these, or without"
            )
        return item
    names = " nor ".join(file.basename for file in entry.files)
    raise DataError(f"{uri}/{INDEX}: names {names}, and no such file lies there; copy all shards")


def _compare_columns(
    entries: Sequence[tuple[str, MdsShard]], data: DataConfig, notes: list[str]
) -> None:
    """Look at the columns of all shards. Raises DataError, or LabelError for codes beside names."""
    uris, footers = [], []
    for uri, entry in entries:
        shard_columns(entry, data, uri)
        schema = schema_of(entry)
        labels = [*label_columns(schema, data), None, None]
        form = label_form(schema, data)
        footers.append(Footer(entry.samples, form, labels[0], labels[1]))
        uris.append(uri)
    refuse_mixed_codes(uris, footers)
    notes += column_notes(uris, footers)
    if unchecked := unchecked_hashes([entry for _, entry in entries]):
        notes.append(f"digests of the kind {', '.join(unchecked)} are not compared")


def _found(shard: Shard) -> tuple[MdsShard, ShardFile]:
    folder, _, basename = shard.uri.rpartition("#")
    found = find_shard(folder, basename)
    if found is not None:
        return found
    raise DataError(f"{shard.uri}: the index does not name it any more; list its shards again")


def _entry(shard: Shard, data: DataConfig) -> _Entry:
    entry, file = _found(shard)
    folder = shard.uri.rpartition("#")[0]
    columns = shard_columns(entry, data, shard.uri)
    return _Entry(entry, file, columns, f"{folder}/{file.basename}")


def _samples(stack: ExitStack, entry: _Entry, *, check: bool) -> Samples | Damage:
    try:
        return stack.enter_context(opened(entry.shard, entry.file, entry.uri, check=check))
    except Damage as err:
        return err


def _lost(shard: Shard, row: int, damage: Damage) -> Reject:
    return Reject(f"{shard.name}/{row}", "read", f"damaged shard: {damage}"[:200])


def _listed(
    samples: Samples, entry: _Entry, shard: Shard, row: int
) -> tuple[ListedImage | Reject, dict[str, Span]]:
    """A sample by its id and label, and where its values lie."""
    place, columns = f"{shard.name}/{row}", entry.columns
    image_id: str | None = place
    try:
        spans = samples.spans(row)
        if columns.id is not None:
            image_id = id_text(_value(samples, entry, columns.id, spans))
    except (ValueError, RecursionError) as err:
        return Reject(place, "read", f"unreadable sample: {err}"[:200]), {}
    if image_id is None:
        return without_id(place, columns.id), spans
    if len(image_id) > MAX_ID_CHARS:
        return too_long_id(image_id), spans
    if columns.label is None:
        return ListedImage(image_id, None), spans
    try:
        value = _value(samples, entry, columns.label, spans)
        label = label_text(value)
    except (ValueError, RecursionError) as err:
        return unreadable_label(image_id, err), spans
    return ListedImage(image_id, label, spelling(value, label)), spans


def _value(samples: Samples, entry: _Entry, column: str, spans: dict[str, Span]) -> object:
    if spans[column].n_bytes > MAX_IMAGE_BYTES:
        raise ValueError(f"column {column!r} has {spans[column].n_bytes} bytes")
    return value_of(entry.shard.encoding(column), samples.read(spans[column]))


def _image(samples: Samples, entry: _Entry, listed: ListedImage, span: Span) -> RawImage | Reject:
    if span.n_bytes > MAX_IMAGE_BYTES:
        return Reject(
            short_id(listed.image_id), "read", too_many_bytes(span.n_bytes, MAX_IMAGE_BYTES)
        )
    try:
        data = image_of(entry.shard.encoding(entry.columns.image), samples.read(span))
    except ValueError as err:
        return Reject(short_id(listed.image_id), "read", str(err)[:200])
    return RawImage(listed.image_id, data, listed.weak_label, listed.spelling)
