"""Lance datasets of images, read by their own library (the extra `lance`).

A fragment is a shard; columns are those of Parquet images. A row is named by its place in the
fragment's files, which stays when other rows are deleted.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pyarrow as pa

from dcd.config import DataConfig
from dcd.errors import DataError, StoreUnavailable
from dcd.sources.objects import is_local, object_uri
from dcd.sources.parquet import image_bytes
from dcd.sources.parquet_cells import Columns, columns_of, image_parts
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
from dcd.store.s3_settings import S3Settings
from dcd.tables.labels import LabelColumn, cleaned, id_column

LANCE_SUFFIX = ".lance"
_BATCH_ROWS = 64
_ROW = "_rowaddr"
_OFFSET_BITS = 32  # of a row's address, below the number of its fragment
_BLOBS = ("lance.blob", "lance-encoding:blob")
_UNREADABLE = (pa.ArrowException, OSError, ValueError, RuntimeError)  # Lance reports as any


def lance_shards(root: Location, uri: str, name: str) -> list[Shard]:
    """Make one shard of a fragment. Raises DataError without the library or if it does not open."""
    dataset = _opened(uri)
    place = object_uri(root, root.path)
    shards = []
    for fragment in dataset.get_fragments():
        known = fragment.metadata.to_json()
        number = f"{fragment.fragment_id:05d}"
        etag = digest(json.dumps(known, sort_keys=True))
        n_rows = fragment.count_rows()
        shards.append(Shard(f"{name}-{number}", f"{place}#{number}", "lance", n_rows, etag))
    return shards


def read_lance(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """Yield the images of a fragment in the order of its rows; with `wanted`, only these ids.

    Raises DataError if the columns are not there, StoreUnavailable if it cannot be read.
    """
    dataset, fragment, columns = _fragment(shard, data)
    for batch in _batches(fragment, columns.beside_image(), shard.uri):
        rows = _Rows(batch, columns, shard.name)
        chosen = [row for row in range(batch.num_rows) if wanted is None or rows.ids[row] in wanted]
        images = iter(_image_bytes(dataset, columns, rows, chosen, shard.uri))
        for row in chosen:
            image = next(images)
            fault = rows.fault(row)
            if fault is not None:
                yield fault
            elif isinstance(image, str):
                yield Reject(short_id(rows.ids[row] or ""), "read", image)
            else:
                yield RawImage(rows.ids[row] or "", image, *rows.label(row))


def list_lance(shard: Shard, data: DataConfig) -> Iterator[ListedImage | Reject]:
    """List what `read_lance` would read, from the id and label columns alone."""
    _, fragment, columns = _fragment(shard, data)
    for batch in _batches(fragment, columns.beside_image(), shard.uri):
        rows = _Rows(batch, columns, shard.name)
        for row in range(batch.num_rows):
            yield rows.fault(row) or ListedImage(rows.ids[row] or "", *rows.label(row))


class _Rows:
    """Ids and labels of some rows of a fragment."""

    def __init__(self, batch: pa.RecordBatch, columns: Columns, shard: str):
        self.addresses: list[int] = batch.column(_ROW).to_pylist()
        self._columns = columns
        self._places = [f"{shard}/{at & (2**_OFFSET_BITS - 1)}" for at in self.addresses]
        self.ids: list[str | None] = list(self._places)
        if columns.id is not None:
            self.ids = id_column(batch.column(columns.id)).to_pylist()
        self._labels: LabelColumn | None = None
        if columns.label is not None:
            self._labels = cleaned(batch.column(columns.label), columns.code_book)

    def fault(self, row: int) -> Reject | None:
        """Tell why a row is no image, as far as its id and label tell."""
        image_id = self.ids[row]
        reason = None if self._labels is None else self._labels.row(row)[1]
        if image_id is None:
            return without_id(self._places[row], self._columns.id)
        if len(image_id) > MAX_ID_CHARS:
            return too_long_id(image_id)
        if reason is not None:
            return unreadable_label(image_id, reason)
        return None

    def label(self, row: int) -> tuple[str | None, str | None]:
        """Return a row's label, and how the dataset writes it where cleaning changed that."""
        if self._labels is None:
            return None, None
        return self._labels.row(row)[0], self._labels.spelling(row)


def _image_bytes(
    dataset: Any, columns: Columns, rows: _Rows, chosen: list[int], uri: str
) -> Iterator[bytes | str]:
    """The bytes of each chosen row's image, or why there are none."""
    addresses = [rows.addresses[row] for row in chosen]
    if not addresses:
        return
    if _is_blob(dataset.schema.field(columns.image)):
        for blob in _checked(lambda: dataset.take_blobs(columns.image, addresses=addresses), uri):
            if blob is None:
                yield "no image bytes"
            elif blob.size() > MAX_IMAGE_BYTES:
                yield too_many_bytes(blob.size(), MAX_IMAGE_BYTES)
            else:
                yield blob.readall()
        return
    table = _checked(lambda: dataset._take_rows(addresses, columns=[columns.image]), uri)
    images, _ = image_parts(table[columns.image].combine_chunks())
    for image in images:
        yield image_bytes(image, None, uri)


def _fragment(shard: Shard, data: DataConfig) -> tuple[Any, Any, Columns]:
    uri, _, number = shard.uri.rpartition("#")
    dataset = _opened(uri)
    fragment = dataset.get_fragment(int(number))
    if fragment is None:
        raise DataError(f"{shard.uri}: the dataset was rewritten meanwhile; list its shards again")
    schema = pa.schema(
        [
            pa.field(field.name, pa.large_binary() if _is_blob(field) else field.type)
            for field in dataset.schema
        ],
        metadata=dataset.schema.metadata,
    )
    return dataset, fragment, columns_of(schema, data, uri)


def _batches(fragment: Any, columns: list[str], uri: str) -> Iterator[pa.RecordBatch]:
    options = {"columns": columns, "batch_size": _BATCH_ROWS, "with_row_address": True}
    batches = _checked(lambda: fragment.scanner(**options).to_batches(), uri)
    while (batch := _checked(lambda: next(batches, None), uri)) is not None:
        yield batch


def _is_blob(field: pa.Field) -> bool:
    noted = {key.decode(): value for key, value in (field.metadata or {}).items()}
    return any(name in str(field.type) for name in _BLOBS) or _BLOBS[1] in noted


def _checked(read: Any, uri: str) -> Any:
    """Raises StoreUnavailable for what Lance raises: it does not part damage from a lost store."""
    try:
        return read()
    except _UNREADABLE as err:
        raise StoreUnavailable(f"{uri}: cannot be read as a Lance dataset: {_brief(err)}") from err


def _opened(uri: str) -> Any:
    if find_spec("lance") is None:
        raise DataError(
            f"{uri}: is a Lance dataset; pip install 'data-centric-debugging[lance]' to read it, "
            "or write it as Parquet"
        )
    import lance  # heavy, and of an extra

    located = locate(uri)
    options = None if is_local(located) else _storage_options()
    try:
        return lance.dataset(object_uri(located, located.path), storage_options=options)
    except _UNREADABLE as err:
        raise DataError(f"{uri}: is no readable Lance dataset: {_brief(err)}") from err


def _storage_options() -> dict[str, str]:
    """The settings that all clients share, in the words of Lance's; it finds the keys itself."""
    settings = S3Settings.resolved()
    options = {"virtual_hosted_style_request": str(settings.virtual_hosts).lower()}
    if settings.region:
        options["region"] = settings.region
    if settings.endpoint:
        options |= {"endpoint": settings.endpoint}
        options["allow_http"] = str(settings.endpoint.startswith("http://")).lower()
    if not settings.signed:
        options["skip_signature"] = "true"
    return options


def _brief(err: Exception) -> str:
    return " ".join(str(err).split())[:300]
