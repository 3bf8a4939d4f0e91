"""What the rows of a Parquet file of images hold: an id, a label, image bytes or a file's name."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dcd.config import DataConfig
from dcd.errors import DataError, ObjectNotFound
from dcd.sources.objects import first_there, is_local, read_range
from dcd.sources.records import MAX_IMAGE_BYTES, label_names, too_many_bytes
from dcd.sources.tables import refuse_look_alikes
from dcd.store.filesystems import locate
from dcd.tables.labels import Names, code_book, may_be_codes, names_meant

# The name that img2dataset gives its image column is the format it encoded to.
OTHER_IMAGE_COLUMNS = ("jpg", "png", "webp")
_ADDRESSES = ("url", "urls", "image_url", "img_url", "photo_image_url")
_DEFAULT_IMAGE = DataConfig.model_fields["image_column"].default
_DEFAULT_ID = DataConfig.model_fields["id_column"].default

# What a label column holds: names, or whole numbers of which the file knows the names or not.
LabelForm = Literal["text", "named codes", "bare codes"]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; `id` and `label` are None where there is no such column.

    code_book: the names of the codes that `label` holds, where the file has them.
    """

    image: str
    id: str | None
    label: str | None
    code_book: Names | None = None

    def names(self) -> list[str]:
        return [self.image, *self.beside_image()]

    def beside_image(self) -> list[str]:
        """Return the columns that tell of an image without its bytes."""
        return [name for name in (self.id, self.label) if name]


def columns_of(schema: pa.Schema, data: DataConfig, uri: str) -> Columns:
    """Find the columns that are read.

    Raises DataError if one is missing or cannot hold what it should.
    """
    names = set(schema.names)
    image = data.image_column
    if image not in names and image == _DEFAULT_IMAGE:
        image = next((name for name in OTHER_IMAGE_COLUMNS if name in names), image)
    if image not in names:
        raise DataError(
            f"{uri}: has no image column {data.image_column!r}; found {schema.names}; "
            f"name the column of image bytes as image_column{_addresses(schema.names)}"
        )
    if data.id_column not in names and data.id_column != _DEFAULT_ID:
        raise DataError(f"{uri}: has no id column {data.id_column!r}; found {schema.names}")
    label = label_column(schema, data)
    found = Columns(
        image=image,
        id=data.id_column if data.id_column in names else None,
        label=label,
        code_book=None if label is None else code_book(schema, label),
    )
    refuse_look_alikes(schema.names, found.names(), uri)
    if not _holds_bytes(schema.field(image).type):
        raise DataError(
            f"{uri}: column {image!r} is {schema.field(image).type}, expected binary or "
            "struct<bytes: binary, path: string>; name the column of image bytes as image_column"
        )
    if found.id is not None and pa.types.is_nested(schema.field(found.id).type):
        raise DataError(
            f"{uri}: column {found.id!r} is {schema.field(found.id).type}, expected ids as text or "
            "numbers; name another id_column"
        )
    return found


def _addresses(names: Sequence[str]) -> str:
    """A hint where a table lists pictures of the web, as LAION's do; "" where it does not."""
    found = next((name for name in names if name.lower() in _ADDRESSES), None)
    if found is None:
        return ""
    return f"; {found!r} may hold addresses: fetch the pictures first, with img2dataset for example"


def label_column(schema: pa.Schema, data: DataConfig) -> str | None:
    """Find the column that holds the labels; None if there is none."""
    return next(iter(label_columns(schema, data)), None)


def label_columns(schema: pa.Schema, data: DataConfig) -> list[str]:
    """Return the columns that may hold the labels, the one that is taken first."""
    return [name for name in label_names(data.label_column) if name in schema.names]


def label_form(schema: pa.Schema, data: DataConfig) -> LabelForm | None:
    """Tell how a file tells its labels; None without a label column."""
    column = label_column(schema, data)
    if column is None:
        return None
    if not may_be_codes(schema.field(column).type):
        return "text"
    return "bare codes" if code_book(schema, column) is None else "named codes"


def image_parts(column: pa.Array) -> tuple[pa.Array, list[str | None] | None]:
    """Return the image bytes of a column, and the file names beside them, where it has such.

    `field` ignores the struct's own validity; a null struct has null bytes all the same.
    """
    if not pa.types.is_struct(column.type):
        return column, None
    has_path = column.type.get_field_index("path") >= 0
    return column.field("bytes"), column.field("path").to_pylist() if has_path else None


def read_beside(table_uri: str, name: str) -> bytes:
    """Read the bytes of the file that a row names, if it lies in the table's folder or below.

    Raises ValueError with the reason if it does not or is too large, StoreError if the store fails.
    """
    says = f"no image bytes, only the file name {name[:200]!r}"
    folder = table_uri.rpartition("/")[0]
    here = locate(folder or ".")
    inside = name
    if name.startswith("/") and is_local(here):
        inside = posixpath.relpath(name, here.path)
    inside = posixpath.normpath(inside)
    if "://" in name or inside.startswith(("..", "/")):
        raise ValueError(f"{says}, which does not lie beside the table; put the files there")
    names = [f"{folder}/{each}" if folder else each for each in names_meant(inside)]
    try:
        uri, located, found = first_there({each: locate(each) for each in names})
        if not found.is_regular:
            raise ValueError(f"{says}, which is not a regular file")
        if found.n_bytes > MAX_IMAGE_BYTES:
            raise ValueError(f"{says}, {too_many_bytes(found.n_bytes, MAX_IMAGE_BYTES)}")
        return read_range(uri, located, 0, found.n_bytes)
    except ObjectNotFound as err:
        raise ValueError(f"{says}, and no such file lies beside the table") from err


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    # A struct whose every row names a file has bytes of the type null.
    return pa.types.is_null(kind) or any(check(kind) for check in is_binary)
