"""A generated corpus of hostile images: each with what must become of it.

`IMAGES` are encoded images. A test that needs them in an archive writes them with `write_tar`.
"""

import io
import struct
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (20, 40, 210), (255, 255, 255)


@dataclass(frozen=True)
class Hostile:
    """`reason` is a fragment of the expected reject's reason; None: it must decode.

    Then `shape` is its (H, W), and `colour` the RGB of its top left corner, give or take 6.
    """

    name: str
    data: bytes
    reason: str | None = None
    shape: tuple[int, int] | None = None
    colour: Colour | None = None


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A tar of regular files; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """Red, but for a green right half of the lower half: every rotation looks different."""
    pixels = np.full((height, width, 3), RED, np.uint8)
    pixels[height // 2 :, width // 2 :] = GREEN
    return Image.fromarray(pixels)


def noise(width: int = 200, height: int = 150) -> Image.Image:
    """Hard to compress, so that a cut always falls into the picture's data."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def oriented(orientation: int) -> bytes:
    """A JPEG whose EXIF orientation says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(scene(64, 32), "JPEG", exif=exif, quality=95)


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG from raw filtered rows; `extra` are finished chunks that go before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(rows, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg_of_claimed_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded(scene(), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_many_scans(n_scans: int) -> bytes:
    """A progressive JPEG of 4 Mpx in a few kilobytes that repeats its last scan over and over."""
    data = encoded(Image.new("RGB", (2048, 2048), RED), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last_scan * n_scans + data[-2:]


def jpeg_with_scan_noise() -> bytes:
    """A JPEG of which a few bytes inside the scan were overwritten; the markers are intact."""
    data = bytearray(encoded(noise(), "JPEG", quality=90))
    middle = len(data) // 2
    data[middle : middle + 4] = b"\xff\xc0\xff\xc4"
    return bytes(data)


def _animation(file_format: str) -> bytes:
    frames = [Image.new("RGB", (30, 20), colour) for colour in (BLUE, RED, GREEN)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)


def _translucent(mode: str, colour: tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (16, 12), colour)


def _palette_with_hole() -> bytes:
    image = Image.new("P", (16, 12), 0)
    image.putpalette([*BLUE, *RED])
    return encoded(image, "PNG", transparency=0)


def _pages() -> bytes:
    first, *others = [Image.new("RGB", (30, 20), colour) for colour in (BLUE, RED)]
    return encoded(first, "TIFF", save_all=True, append_images=others)


def _grey16(value: int, file_format: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.full((10, 12), value, np.uint16)), file_format)


def _rgb16(*value: int) -> bytes:
    row = b"\0" + struct.pack(">HHH", *value) * 12
    return png(12, 10, 16, 2, row * 10)


_JPEG = encoded(noise(), "JPEG", quality=90)
_PROGRESSIVE = encoded(noise(), "JPEG", quality=90, progressive=True)
_PNG = encoded(noise(), "PNG")
_GIF = encoded(noise().convert("P"), "GIF")
_WEBP = encoded(noise(), "WEBP", lossless=True)
_BMP = encoded(noise(), "BMP")
_CMYK = Image.new("CMYK", (40, 30), (0, 225, 225, 35))

# Its size header alone: no small picture, a height of 2^15 in 18 bits, as wide as high.
_JXL_OF_A_GIGAPIXEL = ((0 | 2 << 1 | (2**15 - 1) << 3 | 1 << 21).to_bytes(4, "little")) + bytes(20)

_BROKEN = [
    Hostile("zero_bytes", b"", "zero bytes"),
    Hostile("html_named_jpg", b"<!DOCTYPE html><html><body>404</body></html>", "looks like HTML"),
    Hostile("html_after_blank_lines", b"\xef\xbb\xbf\r\n\r\n<html>gone</html>", "looks like HTML"),
    Hostile("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "looks like SVG"),
    Hostile("svg_with_xml_head", b'<?xml version="1.0"?><svg/>', "looks like XML"),
    Hostile("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "looks like PDF"),
    Hostile("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    Hostile("tiff_half", encoded(noise(), "TIFF")[:40_000], "truncated"),
    Hostile("tiff_float", encoded(Image.new("F", (9, 7), 0.5), "TIFF"), "floating-point"),
    Hostile("tiff_32_bit", encoded(Image.new("I", (9, 7), 2**20), "TIFF"), "32 bits"),
    Hostile("big_tiff_head", b"II+\0\x08\0\0\0" + bytes(9), "looks like BigTIFF"),
    Hostile("jpeg_2000_half", encoded(noise(), "JPEG2000")[:40_000], "cannot be decoded"),
    Hostile("avif_half", encoded(noise(), "AVIF")[:9000], "cannot be decoded"),
    Hostile("icon", encoded(scene(), "ICO"), "not a readable JPEG"),
    Hostile("bomb_pixmap", b"P6 65500 65500 255\n" + bytes(99), "too many pixels"),
    Hostile("bomb_jpeg_xl", b"\xff\n" + _JXL_OF_A_GIGAPIXEL, "too many pixels"),
    Hostile("zip", b"PK\3\4" + bytes(60), "looks like ZIP"),
    Hostile("heic", b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    Hostile("json_error", b'{"error": "rate limit"}', "looks like JSON"),
    Hostile("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid 1\n", "Git LFS"),
    Hostile("plain_text", b"no image here" * 9, "not a readable JPEG"),
    Hostile("zeros", bytes(5000), "not a readable JPEG"),
    Hostile("random_bytes", np.random.default_rng(1).bytes(5000), "not a readable JPEG"),
    Hostile("jpeg_start_only", b"\xff\xd8\xff", "not a readable JPEG"),
    Hostile("jpeg_header_only", _JPEG[:300], "Truncated"),
    Hostile("jpeg_half", _JPEG[: len(_JPEG) // 2], "truncated"),
    Hostile("jpeg_last_bytes_missing", _JPEG[:-40], "truncated"),
    Hostile("jpeg_progressive_half", _PROGRESSIVE[: len(_PROGRESSIVE) // 2], "truncated"),
    Hostile("jpeg_grey_half", encoded(noise().convert("L"), "JPEG")[:9000], "truncated"),
    Hostile("jpeg_cmyk_half", encoded(noise().convert("CMYK"), "JPEG")[:9000], "truncated"),
    Hostile("jpeg_markers_in_scan", jpeg_with_scan_noise(), "cannot be decoded"),
    Hostile("png_half", _PNG[: len(_PNG) // 2], "truncated"),
    Hostile("png_signature_only", _PNG[:8], "not a readable JPEG"),
    Hostile("png_bit_flipped", _PNG[:5000] + bytes([_PNG[5000] ^ 8]) + _PNG[5001:], "decoded"),
    Hostile("png_zero_width", png(0, 9, 8, 2, b""), "not a readable JPEG"),
    Hostile("gif_half", _GIF[: len(_GIF) // 2], "truncated"),
    Hostile("webp_half", _WEBP[: len(_WEBP) // 2], "cannot be decoded"),
    Hostile("bmp_half", _BMP[: len(_BMP) // 2], "truncated"),
    Hostile("bomb_png", png(30_000, 30_000, 8, 2, bytes(2**20)), "too many pixels"),
    Hostile("bomb_png_100_mpx", png(10_000, 10_000, 1, 0, bytes(10_000 * 1251)), "too many pixels"),
    Hostile("bomb_png_huge_header", png(2**31 - 1, 2**31 - 1, 8, 6, b""), "too many pixels"),
    Hostile("bomb_jpeg", jpeg_of_claimed_size(65_500, 65_500), "too many pixels"),
    Hostile("bomb_gif", _GIF[:6] + b"\xff" * 4 + _GIF[10:], "too many pixels"),
    Hostile("bomb_webp", _WEBP[:21] + b"\xff\xff\xff\x0f" + _WEBP[25:], "too many pixels"),
    Hostile("bomb_jpeg_scans", jpeg_of_many_scans(1000), "too many scans"),
    Hostile(
        "bomb_png_text",
        png(4, 4, 8, 0, bytes(20), png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24)))),
        "decoded",
    ),
]

_UNUSUAL = [
    Hostile("jpeg_cmyk", encoded(_CMYK, "JPEG", quality=95), shape=(30, 40), colour=(220, 26, 26)),
    Hostile("jpeg_grey", encoded(Image.new("L", (9, 7), 77), "JPEG"), None, (7, 9), (77, 77, 77)),
    Hostile("jpeg_progressive", encoded(scene(), "JPEG", progressive=True), None, (40, 60), RED),
    Hostile("jpeg_trailing_junk", encoded(scene(), "JPEG") + b"junk" * 50, None, (40, 60), RED),
    Hostile("jpeg_one_pixel", encoded(Image.new("RGB", (1, 1), BLUE), "JPEG"), None, (1, 1), BLUE),
    Hostile("jpeg_sideways", oriented(6), None, (64, 32), RED),
    Hostile("jpeg_upside_down", oriented(3), None, (32, 64), GREEN),
    Hostile("jpeg_bad_orientation", oriented(99), None, (32, 64), RED),
    Hostile(
        "jpeg_very_wide",
        encoded(Image.new("RGB", (60_000, 2), RED), "JPEG"),
        None,
        (2, 60_000),
        RED,
    ),
    Hostile(
        "jpeg_of_a_phone",
        encoded(scene(), "MPO", save_all=True, append_images=[noise()]),
        None,
        (40, 60),
        RED,
    ),
    Hostile("jpeg_named_png", encoded(scene(), "JPEG"), None, (40, 60), RED),
    Hostile("png_16_bit_grey", _grey16(0x8080), None, (10, 12), (128, 128, 128)),
    Hostile("png_16_bit_grey_dark", _grey16(514), None, (10, 12), (2, 2, 2)),
    Hostile("png_16_bit_rgb", _rgb16(0xFFFF, 0x8080, 0), None, (10, 12), (255, 128, 0)),
    Hostile("png_1_bit", encoded(Image.new("1", (9, 9), 1), "PNG"), None, (9, 9), WHITE),
    Hostile("png_palette", encoded(scene().quantize(8), "PNG"), None, (40, 60), RED),
    Hostile("png_palette_transparent", _palette_with_hole(), None, (12, 16), WHITE),
    Hostile(
        "png_transparent", encoded(_translucent("RGBA", (9, 9, 9, 0)), "PNG"), None, (12, 16), WHITE
    ),
    Hostile(
        "png_half_transparent",
        encoded(_translucent("RGBA", (0, 0, 255, 128)), "PNG"),
        None,
        (12, 16),
        (127, 127, 255),
    ),
    Hostile(
        "png_grey_alpha",
        encoded(_translucent("LA", (0, 51)), "PNG"),
        None,
        (12, 16),
        (204, 204, 204),
    ),
    Hostile(
        "png_colour_key",
        encoded(Image.new("RGB", (16, 12), RED), "PNG", transparency=RED),
        None,
        (12, 16),
        WHITE,
    ),
    Hostile(
        "png_one_wide", encoded(Image.new("RGB", (1, 3000), GREEN), "PNG"), None, (3000, 1), GREEN
    ),
    Hostile("png_animated", _animation("PNG"), None, (20, 30), BLUE),
    Hostile("gif_animated", _animation("GIF"), None, (20, 30), BLUE),
    Hostile(
        "gif_transparent", encoded(_translucent("RGBA", (0, 0, 0, 0)), "GIF"), None, (12, 16), WHITE
    ),
    Hostile("webp_animated", _animation("WEBP"), None, (20, 30), BLUE),
    Hostile(
        "webp_transparent",
        encoded(_translucent("RGBA", (9, 9, 9, 0)), "WEBP", lossless=True, exact=True),
        None,
        (12, 16),
        WHITE,
    ),
    Hostile("tiff_pages", _pages(), None, (20, 30), BLUE),
    Hostile("tiff_cmyk", encoded(_CMYK, "TIFF"), None, (30, 40), (220, 26, 26)),
    Hostile("tiff_16_bit", _grey16(0x80FF, "TIFF"), None, (10, 12), (128, 128, 128)),
    Hostile("jpeg_2000", encoded(scene(), "JPEG2000"), None, (40, 60), RED),
    Hostile("avif", encoded(scene(), "AVIF", quality=95), None, (40, 60), RED),
    Hostile("portable_pixmap", encoded(scene(), "PPM"), None, (40, 60), RED),
    Hostile("png_16_bit_grey_high_byte", _grey16(0x7FFF), None, (10, 12), (127, 127, 127)),
    Hostile("bmp_palette", encoded(scene().quantize(8), "BMP"), None, (40, 60), RED),
]

IMAGES: list[Hostile] = _BROKEN + _UNUSUAL
