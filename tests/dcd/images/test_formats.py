"""The list of formats: what it says is what is decoded, and what the docs say."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcd.images.decode import BadImage, decode
from dcd.images.formats import (
    FORMATS,
    REFUSED,
    ImageFormat,
    formats_table,
    is_image_name,
    suffix_of,
)
from dcd.images.jxl import jxl_size

DOCS = Path(__file__).parents[3] / "docs"
RED = (200, 30, 40)


def written(each: ImageFormat) -> bytes:
    """A red picture in a format, by the writer of what decodes it."""
    sink = io.BytesIO()
    Image.new("RGB", (60, 40), RED).save(sink, each.pillow[0])
    return sink.getvalue()


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_format_of_the_list_is_decoded(each: ImageFormat):
    if not each.is_decoded:
        pytest.skip(f"the extra of {each.name} is not installed")
    pixels = decode(written(each))
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - RED).max() < 6
    with pytest.raises(BadImage):
        decode(written(each)[: len(written(each)) * 2 // 3])


def test_the_docs_list_what_is_decoded():
    assert formats_table() in (DOCS / "embedding.md").read_text(encoding="utf-8")


def test_names_are_compared_in_lower_case_by_their_last_suffix():
    for name in ("a.JPG", "b.x.Tiff", "s3/d.v2/c.HEIC", "w\\in.jfif", "drawing.svg"):
        assert is_image_name(name)
    for name in ("README.md", "jpg", ".jpg", "d.jpg/x", "a.jpg.txt"):
        assert not is_image_name(name)
    assert suffix_of("d.v1/noext") == ""


def test_no_suffix_is_both_decoded_and_refused():
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert not REFUSED.keys() & set(suffixes)


@pytest.mark.parametrize("size", [(60, 40), (64, 64), (256, 256), (1, 3000), (1920, 1080)])
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0\x08\0\0\0\0\0"])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int], exif: bytes):
    pytest.importorskip("pillow_jxl")
    sink = io.BytesIO()
    Image.new("L", size).save(sink, "JXL", **({"exif": exif} if exif else {}))
    assert jxl_size(sink.getvalue()) == size
