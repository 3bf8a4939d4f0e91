"""What the readers of image sources hand out."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["webdataset", "parquet", "folder", "manifest", "lance", "mds"]
MAX_IMAGE_BYTES = 128 * 2**20
MAX_ID_CHARS = 1024
LABEL_COLUMNS = ("weak_label", "label")


@dataclass(frozen=True)
class Shard:
    """One unit of work. `name` is unique within its source and safe as one path segment.

    `etag` changes when the source changes; `n_images` is None where only reading would tell.
    """

    name: str
    uri: str
    format: Format
    n_images: int | None
    etag: str


@dataclass(frozen=True)
class RawImage:
    """The encoded bytes of one image, not yet looked at.

    spelling: the label as the source writes it, where cleaning changed it.
    """

    image_id: str
    data: bytes
    weak_label: str | None
    spelling: str | None = None


@dataclass(frozen=True)
class ListedImage:
    """An image by its id and label alone, its bytes not read.

    spelling: the label as the source writes it, where cleaning changed it.
    """

    image_id: str
    weak_label: str | None
    spelling: str | None = None


@dataclass(frozen=True)
class Reject:
    """An image that could not be used, and why."""

    image_id: str
    stage: Literal["read", "decode", "embed", "label", "known"]
    reason: str


def label_names(label_column: str | None) -> tuple[str, ...]:
    """Return the names that labels may stand under: the one that is asked for, or the usual."""
    return (label_column,) if label_column else LABEL_COLUMNS


def short_id(text: str) -> str:
    """Make an id for a reject: valid Unicode of bounded length."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return clean if len(clean) <= MAX_ID_CHARS else f"{clean[: MAX_ID_CHARS - 1]}…"


def without_id(place: str, column: str | None) -> Reject:
    """Make the reject of a row that has no id; it is named by its place."""
    return Reject(place, "read", f"no id in column {column!r}")


def too_long_id(image_id: str) -> Reject:
    """Make the reject of an image whose id has over MAX_ID_CHARS characters."""
    return Reject(short_id(image_id), "read", f"its id has {len(image_id)} characters")


def too_many_bytes(n_bytes: int, limit: int) -> str:
    """Say why an image, or a label's file, of more bytes than the limit is not read."""
    return f"{n_bytes} bytes, at most {limit} allowed"


def unreadable_label(image_id: str, problem: object) -> Reject:
    """Make the reject of an image that has a label which cannot be read."""
    return Reject(short_id(image_id), "label", f"unreadable label: {problem}"[:200])
