"""Read what a camera noted beside a picture: when, with what and where it was taken.

EXIF 2.32: DateTimeOriginal, Make, Model, and the GPS tags. Nothing is decoded, and nothing trusted:
what is missing or makes no sense is None.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from PIL import Image

from dcd.images.decode import OPENED_FORMATS
from dcd.tables.labels import clean_text

_OPENED = tuple(name for name in OPENED_FORMATS if name != "JXL")  # which decodes to open
_MAKE, _MODEL, _CHANGED = 0x010F, 0x0110, 0x0132
_EXIF, _ORIGINAL, _DIGITIZED = 0x8769, 0x9003, 0x9004
_GPS, _LATITUDE, _LONGITUDE = 0x8825, 2, 4
_WRITTEN = "%Y:%m:%d %H:%M:%S"
_MAX_TEXT_CHARS = 200


@dataclass(frozen=True)
class Capture:
    """When (the camera's own clock), with what and where a picture was taken; None: not noted.

    latitude, longitude: degrees, north and east positive.
    """

    captured: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def capture_of(data: bytes) -> Capture:
    """Read the EXIF of an encoded picture. Never raises: without any all is None."""
    try:
        with Image.open(io.BytesIO(data), formats=_OPENED) as image:
            tags = image.getexif()
            details, place = tags.get_ifd(_EXIF), tags.get_ifd(_GPS)
            noted = dict(tags)
    except Exception:  # parsers raise nearly every type on hostile bytes
        return Capture()
    times = (details.get(_ORIGINAL), details.get(_DIGITIZED), noted.get(_CHANGED))
    latitude = _degrees(place, _LATITUDE, "NS", 90)
    longitude = _degrees(place, _LONGITUDE, "EW", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Capture(
        next((time for time in map(_time, times) if time), None),
        _camera(noted),
        latitude,
        longitude,
    )


def _time(value: object) -> datetime | None:
    try:
        return datetime.strptime(_text(value) or "", _WRITTEN)
    except ValueError:  # "0000:00:00 00:00:00" stands for an unset clock
        return None


def _camera(tags: Mapping[int, object]) -> str | None:
    """Maker and model; the maker once, where the model begins with it."""
    maker, model = _text(tags.get(_MAKE)), _text(tags.get(_MODEL))
    if maker and model and not model.lower().startswith(maker.lower()):
        return f"{maker} {model}"
    return model or maker


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    return clean_text(value.partition("\0")[0])[:_MAX_TEXT_CHARS] or None


def _degrees(tags: Mapping[int, object], at: int, signs: str, limit: int) -> float | None:
    """Degrees, minutes and seconds as degrees; the sign stands in the tag before."""
    try:
        degrees, minutes, seconds = (float(part) for part in tags[at])  # type: ignore[union-attr]
        found = degrees + minutes / 60 + seconds / 3600
        sign = signs.index((_text(tags[at - 1]) or "?").upper())
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (found if sign == 0 else -found) if 0 <= found <= limit else None
