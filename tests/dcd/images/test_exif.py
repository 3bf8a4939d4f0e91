import io
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcd.images.exif import Capture, capture_of


def photo(form: str = "JPEG", **tags: object) -> bytes:
    """A picture with EXIF tags: by number, those of the sub-tables as exif_… and gps_…."""
    exif = Image.Exif()
    for name, value in tags.items():
        table, _, number = name.rpartition("_")
        at = {"t": exif, "exif": exif.get_ifd(0x8769), "gps": exif.get_ifd(0x8825)}[table]
        at[int(number)] = value  # pyright: ignore
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, form, exif=exif)
    return sink.getvalue()


WINTER = {
    "exif_36867": "2026:01:31 07:05:09",
    "t_306": "2027:01:01 00:00:00",
    "t_271": "Canon",
    "t_272": "Canon EOS R6",
    "gps_1": "S",
    "gps_2": (33.0, 30.0, 36.0),
    "gps_3": "E",
    "gps_4": (151.0, 0.0, 0.0),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_time_camera_and_position_are_read(form: str):
    found = capture_of(photo(form, **WINTER))
    assert (found.captured, found.camera) == (datetime(2026, 1, 31, 7, 5, 9), "Canon EOS R6")
    assert (found.latitude, found.longitude) == (pytest.approx(-33.51), 151.0)


def test_without_a_time_of_its_own_that_of_the_file_counts():
    found = capture_of(photo("TIFF", t_306="2027:01:01 00:00:00", t_272="A7"))
    assert found == Capture(datetime(2027, 1, 1), "A7")


@pytest.mark.filterwarnings("ignore:.*")
def test_what_makes_no_sense_is_missing():
    unset = {"exif_36867": "0000:00:00 00:00:00", "t_271": " \0", "t_272": "X100 "}
    assert capture_of(photo(**unset)) == Capture(camera="X100")
    half = {"gps_1": "N", "gps_2": (91.0, 0.0, 0.0), "gps_3": "E", "gps_4": (1.0, 0.0, 0.0)}
    assert capture_of(photo(**half)) == Capture()
    assert capture_of(photo(t_271="Sony", t_272="A7")).camera == "Sony A7"
    for data in (b"", b"\xff\xd8", photo()[:50], b"GIF89a"):
        assert capture_of(data) == Capture()


@pytest.mark.filterwarnings("ignore:.*")
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_hostile_exif_never_raises(data: st.DataObject):
    damaged = bytearray(photo(**WINTER))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(capture_of(bytes(damaged)), Capture)
