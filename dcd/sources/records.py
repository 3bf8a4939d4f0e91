"""What the readers of image sources hand out, and the cleaning of ids and labels they share."""

import math
from dataclasses import dataclass
from typing import Literal

Format = Literal["webdataset", "parquet", "folder", "manifest"]
MAX_IMAGE_BYTES = 128 * 2**20
MAX_ID_CHARS = 1024
MAX_LABEL_CHARS = 10_000  # captions are labels too
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
    """The encoded bytes of one image, not yet looked at."""

    image_id: str
    data: bytes
    weak_label: str | None


@dataclass(frozen=True)
class ListedImage:
    """An image by its id and label alone, its bytes not read."""

    image_id: str
    weak_label: str | None


@dataclass(frozen=True)
class Reject:
    """An image that could not be used, and why."""

    image_id: str
    stage: Literal["read", "decode", "embed", "label", "known"]
    reason: str


def clean_id(text: str) -> str:
    """`text` as valid Unicode: undecodable bytes of file names become backslash escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def short_id(text: str) -> str:
    """An id for a reject: valid Unicode of bounded length."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return clean if len(clean) <= MAX_ID_CHARS else f"{clean[: MAX_ID_CHARS - 1]}…"


def label_text(value: object) -> str | None:
    """A label as text; None for an absent one (null, NaN, blank).

    Whole numbers count as class indexes. Raises ValueError, with the reason, for anything else.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"the label is a {type(value).__name__}, expected text or a whole number")
    text = str(value).strip()
    if len(text) > MAX_LABEL_CHARS:
        raise ValueError(f"the label has {len(text)} characters, at most {MAX_LABEL_CHARS} allowed")
    text.encode("utf-8")  # lone surrogates raise UnicodeEncodeError, a ValueError
    return text or None
