"""Decoding of the hostile corpus, and fuzzing."""

import base64
import io
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from zlib import compress, crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from dcd.images.decode import MAX_PIXELS, BadImage, _decode_jpeg, _without_torch, decode
from tests.dcd.sources.hostile import IMAGES, Hostile, encoded, noise, oriented, scene

DECODABLE = [case.data for case in IMAGES if case.reason is None]


def outcome(data: bytes) -> str | bytes:
    """The pixels, or the reason; any other exception is a failure."""
    try:
        pixels = decode(data)
    except BadImage as err:
        return err.reason
    assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    return pixels.tobytes()


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_every_hostile_image_is_decoded_or_rejected_as_it_should(case: Hostile):
    if case.reason is not None:
        with pytest.raises(BadImage) as raised:
            decode(case.data)
        assert case.reason in raised.value.reason
        assert len(raised.value.reason) <= 200
        assert "object at" not in raised.value.reason
        assert raised.value.reason == outcome(case.data), "the same bytes, the same reason"
        return
    pixels = decode(case.data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*(case.shape or ()), 3)
    assert np.abs(pixels[0, 0].astype(int) - case.colour).max() <= 6


def test_the_corpus_leaves_pillow_as_it_was():
    max_pixels = Image.MAX_IMAGE_PIXELS
    for case in IMAGES:
        outcome(case.data)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert max_pixels == Image.MAX_IMAGE_PIXELS


def test_threads_decode_the_same_as_one():
    alone = [outcome(case.data) for case in IMAGES]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(outcome, [case.data for case in IMAGES] * 3))
    assert together == alone * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int):
    data = oriented(orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data), np.asarray(upright))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 95])
def test_jpegs_decode_as_in_pillow(subsampling: int, quality: int):
    picture = noise(131, 77).resize((331, 177))
    data = encoded(picture, "JPEG", subsampling=subsampling, quality=quality)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data) - expected).max() <= 1


def without_torch(data: bytes) -> np.ndarray | None:
    with Image.open(io.BytesIO(data)) as image:
        return _without_torch(image, data)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (64, 48), (131, 96)])
def test_pillow_gives_the_pixels_of_torchvision(
    size: tuple[int, int], mode: str, progressive: bool
):
    picture = noise(*size).convert(mode)
    for quality in (3, 40, 75, 90, 100):
        for subsampling in (0, 1, 2) if mode == "RGB" else (None,):
            sink = io.BytesIO()
            layout = {} if subsampling is None else {"subsampling": subsampling}
            picture.save(sink, "JPEG", quality=quality, progressive=progressive, **layout)
            found = without_torch(sink.getvalue())
            np.testing.assert_array_equal(found, _decode_jpeg(sink.getvalue()))


def test_what_pillow_says_of_a_damaged_jpeg_is_torchvisions_word_too():
    """Cut off files are left to torchvision; of those that it decodes the pixels are the same."""
    rng = np.random.default_rng(0)
    n_same = 0
    for _ in range(150):
        data = bytearray(encoded(noise(40, 56), "JPEG"))
        data[int(rng.integers(len(data) // 3, len(data) - 2))] ^= 1 << int(rng.integers(8))
        assert without_torch(bytes(data[:-1])) is None
        try:
            found = without_torch(bytes(data))
        except OSError:  # no picture by its header: never comes so far
            continue
        if found is not None:
            np.testing.assert_array_equal(found, _decode_jpeg(bytes(data)))
            n_same += 1
    assert n_same > 50


def test_large_images_decode_whole():
    side = 4200  # above the size that goes one at a time
    data = encoded(Image.new("L", (side, side), 99), "PNG")
    assert side * side < MAX_PIXELS
    assert decode(data).shape == (side, side, 3)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_bad_image(data: bytes):
    outcome(data)
    outcome(b"\xff\xd8\xff\xe0" + data)
    outcome(b"\x89PNG\r\n\x1a\n" + data)
    outcome(b"RIFF\x40\0\0\0WEBP" + data)
    outcome(b"GIF89a" + data)
    outcome(b"BM" + data)


@settings(max_examples=400, deadline=None)
@given(
    seed=st.sampled_from(
        [data for data in DECODABLE if len(data) < 10_000]
        + [encoded(scene(), "JPEG", quality=95, progressive=p) for p in (True, False)]
    ),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=8
    ),
)
def test_mutated_images_raise_nothing_but_bad_image(
    seed: bytes, edits: list[tuple[float, int, bytes]]
):
    data = bytearray(seed)
    for place, kind, content in edits:
        at = int(place * len(data))
        if kind == 0:
            data[at : at + len(content)] = content
        elif kind == 1:
            data[at:at] = content
        elif kind == 2:
            del data[at : at + len(content)]
        else:
            data[at:] = content
    assert outcome(bytes(data))


def test_decoding_tells_users_nothing_of_torchvisions_plans() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (20, 20)).save(sink, "JPEG")
    code = f"from dcd.images.decode import decode; decode({sink.getvalue()!r})"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "decoding" not in done.stderr


def png_of_16_bits(colour_type: int, samples: tuple[int, ...], clear: tuple[int, ...]) -> bytes:
    """Two pixels: the samples, and the transparent ones."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    def pack(values: tuple[int, ...]) -> bytes:
        return struct.pack(f">{len(values)}H", *values)

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, colour_type, 0, 0, 0))
        + chunk(b"tRNS", pack(clear))
        + chunk(b"IDAT", compress(b"\0" + pack(samples) + pack(clear)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("colour_type", "samples", "clear"),
    [(0, (40_000,), (513,)), (2, (40_000, 513, 0), (0, 513, 0))],
)
def test_transparent_colours_of_16_bits_are_laid_on_white(
    colour_type: int, samples: tuple[int, ...], clear: tuple[int, ...]
):
    pixels = decode(png_of_16_bits(colour_type, samples, clear))
    assert pixels[0, 0].tolist() == [sample >> 8 for sample in samples] * (3 // len(samples))
    assert pixels[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("sample", [1, 200, 70_000])
def test_a_tiff_of_32_bits_is_refused_whatever_it_holds(sample: int):
    """Small samples of it were taken for 16 bits, and the picture was black."""
    with pytest.raises(BadImage, match="samples of 32 bits"):
        decode(encoded(Image.new("I", (4, 4), sample), "TIFF"))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_base64_in_the_place_of_a_picture_is_told(form: str):
    with pytest.raises(BadImage, match=f"looks like a {form} as base64 text"):
        decode(base64.b64encode(encoded(noise(), form)))
