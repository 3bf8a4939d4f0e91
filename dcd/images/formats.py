"""The picture formats that are known, by name and suffix: one list for readers, decoder and docs.

Imports no decoder, so that listing files costs nothing.
"""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class ImageFormat:
    """One format that is decoded.

    name: as people know it. pillow: what Pillow opens it by. suffixes: lower case, without the dot.
    plugin: the module that decodes it, and the extra of this package that brings it; None: Pillow.
    note: what of such a file is taken, where that is not all.
    """

    name: str
    pillow: tuple[str, ...]
    suffixes: tuple[str, ...]
    plugin: tuple[str, str] | None = None
    note: str = ""

    @property
    def is_decoded(self) -> bool:
        """Whether what decodes it is installed."""
        return self.plugin is None or find_spec(self.plugin[0]) is not None


FORMATS = (
    ImageFormat(
        "JPEG",
        ("JPEG",),
        ("jpg", "jpeg", "jpe", "jfif", "mpo"),
        note="first picture of several",
    ),
    ImageFormat("PNG", ("PNG",), ("png", "apng"), note="first frame; of 16 bits the high 8"),
    ImageFormat("WebP", ("WEBP",), ("webp",), note="first frame"),
    ImageFormat("GIF", ("GIF",), ("gif",), note="first frame"),
    ImageFormat("BMP", ("BMP",), ("bmp", "dib")),
    ImageFormat("TIFF", ("TIFF",), ("tif", "tiff"), note="first page; no floating-point samples"),
    ImageFormat("JPEG 2000", ("JPEG2000",), ("jp2", "j2k", "jpf", "jpx", "j2c", "jpc")),
    ImageFormat("PPM", ("PPM",), ("ppm", "pgm", "pbm", "pnm")),
    ImageFormat("AVIF", ("AVIF",), ("avif", "avifs"), note="first frame"),
    ImageFormat(
        "HEIC", ("HEIF",), ("heic", "heif", "hif"), ("pillow_heif", "heif"), "primary picture"
    ),
    ImageFormat("JPEG XL", ("JXL",), ("jxl",), ("pillow_jxl", "jxl"), "no animations"),
)

# Pictures that are not decoded. A file with such a suffix is refused with this reason, never
# passed over: who has it takes it for an image.
REFUSED = {
    "svg": "SVG is a drawing without pixels; convert it to PNG",
    "svgz": "SVG is a drawing without pixels; convert it to PNG",
    "psd": "Photoshop files are not decoded; convert them to PNG",
    "ico": "icons are not decoded; convert them to PNG",
    "exr": "floating-point pictures are not decoded; convert them to PNG",
    "hdr": "floating-point pictures are not decoded; convert them to PNG",
    **dict.fromkeys(
        [
            "dng",
            "cr2",
            "cr3",
            "crw",
            "nef",
            "nrw",
            "arw",
            "sr2",
            "srf",
            "orf",
            "rw2",
            "raf",
            "pef",
            "srw",
            "3fr",
            "iiq",
        ],
        "camera raw files are not decoded; convert them to JPEG",
    ),
    **{
        suffix: f"{suffix} files are not decoded; convert them to PNG"
        for suffix in [
            "tga",
            "pcx",
            "sgi",
            "icns",
            "dds",
            "qoi",
            "xcf",
            "eps",
            "emf",
            "wmf",
            "cur",
            "dcm",
            "fits",
        ]
    },
}

SUFFIXES = frozenset(suffix for each in FORMATS for suffix in each.suffixes)
_TAKEN_FOR_IMAGES = SUFFIXES | REFUSED.keys()


def suffix_of(name: str) -> str:
    """Return what stands behind the last dot of a base name, in lower case; "" without a dot."""
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    return suffix.lower() if dot and stem else ""


def is_image_name(name: str) -> bool:
    """Tell whether a file is taken for an image, decoded or refused, by the suffix of its name."""
    return suffix_of(name) in _TAKEN_FOR_IMAGES


def decoded_formats() -> tuple[ImageFormat, ...]:
    """Return the formats that this installation decodes."""
    return tuple(each for each in FORMATS if each.is_decoded)


def in_words(formats: tuple[ImageFormat, ...] | None = None) -> str:
    """Name formats as a sentence has them: "JPEG, PNG or GIF"; default: those decoded."""
    *others, last = [each.name for each in formats or decoded_formats()]
    return f"{', '.join(others)} or {last}"


def formats_table() -> str:
    """Make the list of docs/embedding.md, as Markdown."""
    rows = ["| format | suffixes | what is taken | needs |", "|---|---|---|---|"]
    for each in FORMATS:
        suffixes = " ".join(f"`.{suffix}`" for suffix in each.suffixes)
        needs = f"the extra `{each.plugin[1]}`" if each.plugin else "–"
        rows.append(f"| {each.name} | {suffixes} | {each.note or 'the picture'} | {needs} |")
    return "\n".join(rows)
