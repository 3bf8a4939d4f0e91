"""Decode images that nobody vouches for.

The only module that decodes. Accepted is what `formats` lists; of an animation the first frame,
of several pages the first. Whatever cannot be decoded whole raises BadImage with a reason.
"""

import io
import sys
import threading
import warnings
from contextlib import nullcontext, suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dcd.errors import DCDError
from dcd.images.formats import FORMATS, decoded_formats, in_words
from dcd.images.jxl import jxl_size

MAX_PIXELS = 89_478_485  # 256 MiB as RGB; also where Pillow starts to warn
_LARGE_PIXELS = 2**24
_MAX_SCAN_PIXELS = 4_000_000_000  # about five seconds: each scan of a JPEG visits each pixel
_MIN_SCAN_BYTES = 10
OPENED_FORMATS = tuple(name for each in decoded_formats() for name in each.pillow)
_JPEGS = ("JPEG", "MPO")  # MPO: further pictures behind the first, as phones write
_END_OF_JPEG = b"\xff\xd9"
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102  # a tag of TIFF
_TOO_DEEP = "samples of 32 bits; save as 8 or 16 bits"
_MAX_SAMPLE = 2**16 - 1


# Pillow's remarks on odd files would fill the log of a large pool; what matters is a reject.
warnings.filterwarnings("ignore", module=r"PIL\.")


with suppress(ImportError):  # the extra `heif`
    import pillow_heif

    # Thumbnails, depth maps and the like are read at opening otherwise.
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
with suppress(ImportError):  # the extra `jxl`: importing it registers it
    from pillow_jxl import JpegXLImagePlugin

    JpegXLImagePlugin.DECODE_THREADS = 0  # each image has a thread of its own already


# torchvision announces that its decoders will move to another package: nothing a user can mend.
warnings.filterwarnings("ignore", r"The image decoding and encoding", DeprecationWarning)


# At up to 14 bytes a pixel, several large images at once would burst a worker's memory.
_one_large_image = threading.Lock()
_BRANDS = {
    **dict.fromkeys(("avif", "avis"), "AVIF"),
    **dict.fromkeys(("heic", "heix", "hevc", "hevx", "mif1", "msf1", "heim", "heis"), "HEIC"),
}
_OTHER_CONTENT = (
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"%pdf", "PDF"),
    (b"%!ps", "PostScript"),
    (b"ii*\0", "TIFF"),
    (b"mm\0*", "TIFF"),
    (b"ii+\0", "BigTIFF"),
    (b"mm\0+", "BigTIFF"),
    (b"\xff\n", "JPEG XL"),
    (b"\0\0\0\x0cjxl ", "JPEG XL"),
    (b"8bps", "Photoshop"),
    (b"pk\3\4", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"{", "JSON"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"/9j/", "a JPEG as base64 text"),
    (b"ivborw0kggo", "a PNG as base64 text"),
    (b"data:image", "a data URI"),
)


class BadImage(DCDError):
    """These bytes give no image. `reason` is short and the same for the same bytes."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


def decode(data: bytes) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Transparency is composited on white, 16-bit samples are scaled to 8, colour profiles are
    ignored. Raises BadImage, and nothing else, if the bytes are no complete image of an accepted
    format or have more than `MAX_PIXELS` pixels (checked before anything is decoded).
    """
    if not data:
        raise BadImage("zero bytes")
    try:
        _check_jxl(data)
        with Image.open(io.BytesIO(data), formats=OPENED_FORMATS) as image:
            _check_cost(image, data)
            is_large = image.width * image.height > _LARGE_PIXELS
            with _one_large_image if is_large else nullcontext():
                if image.format in _JPEGS and image.mode in ("RGB", "L") and _is_upright(image):
                    pixels = None if "torch" in sys.modules else _without_torch(image, data)
                    return _decode_jpeg(data) if pixels is None else pixels
                return _decode_any(image)
    except BadImage:
        raise
    except UnidentifiedImageError as err:
        raise BadImage(_unidentified(data)) from err
    except Image.DecompressionBombError as err:
        raise BadImage("too many pixels") from err
    except Exception as err:  # decoders raise nearly every type on hostile bytes
        raise BadImage(_reason(err)) from err


def _check_cost(image: Image.Image, data: bytes) -> None:
    """Refuse what would take too much memory or time, by its header."""
    n_pixels = image.width * image.height
    _check_size(image.width, image.height)
    # Counting costs a tenth of the decoding, so only where the budget could be passed.
    if image.format in _JPEGS and len(data) // _MIN_SCAN_BYTES * n_pixels > _MAX_SCAN_PIXELS:
        n_scans = data.count(b"\xff\xda")  # inside a scan, 0xff is always followed by a zero
        if n_scans * n_pixels > _MAX_SCAN_PIXELS:
            raise BadImage(f"too many scans: {n_scans} over {image.width}×{image.height} pixels")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"too many pixels: {width}×{height}, at most {MAX_PIXELS} allowed")


def _check_jxl(data: bytes) -> None:
    """The plugin for JPEG XL decodes all while it opens: its size must be known before."""
    size = jxl_size(data)
    if size is not None:
        _check_size(*size)


def _is_upright(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) == 1


def _without_torch(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a JPEG by Pillow: the pixels of torchvision's decoder, and no seconds of imports.

    None where that one has the last word: Pillow refuses, or the file has no plain end, as most
    damaged ones.
    """
    if not data.endswith(_END_OF_JPEG):
        return None
    try:
        return np.asarray(image.convert("RGB"))
    except Exception:  # decoders raise nearly every type on hostile bytes
        return None


def jpegs_need_no_torch(picture: np.ndarray) -> bool:
    """Tell whether Pillow decodes a picture (H, W, 3) uint8, as JPEG, as torchvision does here."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=80, subsampling="4:2:0")
    with Image.open(sink) as image:
        found = _without_torch(image, sink.getvalue())
    return np.array_equal(found, _decode_jpeg(sink.getvalue()))  # pyright: ignore[reportArgumentType]


def _decode_jpeg(data: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    # torch warns about read-only buffers, hence the copy: microseconds against the decoding.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = decode_jpeg(encoded, mode=ImageReadMode.RGB)
    assert isinstance(pixels, torch.Tensor)
    return pixels.permute(1, 2, 0).numpy()


def _decode_any(image: Image.Image) -> np.ndarray:
    """Every accepted format and mode, through Pillow."""
    if image.mode == "I" and _tiff_bits(image) > 16:
        raise BadImage(_TOO_DEEP)
    is_deep = any("16" in str(tile[3]) for tile in image.tile)
    image.load()
    clear = image.info.get("transparency")
    if is_deep and isinstance(clear, tuple):  # of 16 bits, where the pixels have 8 by now
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadImage("floating-point samples, which have no agreed white; save as 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        grey = np.asarray(image).astype(np.int64)
        if grey.size and (grey.min() < 0 or grey.max() > _MAX_SAMPLE):
            raise BadImage(_TOO_DEEP)
        # The high byte, as Pillow takes it of 16-bit colour: one rule for both.
        high = np.where(grey == clear, 255, grey >> 8) if isinstance(clear, int) else grey >> 8
        return np.repeat(high.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    return np.array(image.convert("RGB"))


def _tiff_bits(image: Image.Image) -> int:
    """Bits of a TIFF's samples; 0 of any other image."""
    return max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) or (0,))


def _unidentified(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace").strip()
        found = _BRANDS.get(brand, f"{brand} (a video?)")
    else:
        found = next((name for magic, name in _OTHER_CONTENT if head.startswith(magic)), None)
    wanted = f"not a readable {in_words()}"
    if found is None:
        return wanted
    known = next((each for each in FORMATS if each.name == found), None)
    if known is None:
        return f"{wanted}: looks like {found}"
    if known.plugin and not known.is_decoded:
        return f"{wanted}: looks like {found}, which needs the extra {known.plugin[1]}"
    return f"cannot be decoded: a damaged {found}"


def _reason(err: Exception) -> str:
    """The decoder's words in one short line, without the place in torchvision's sources."""
    text = " ".join(str(err).split())
    if text.startswith("decode_jpeg, "):
        text = text.split(", ", 2)[-1]
    return f"cannot be decoded: {text or type(err).__name__}"[:200]
