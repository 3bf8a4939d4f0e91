"""Write the MDS sets of this folder with MosaicML's own library, and what its reader makes of them.

    python3 -m venv /tmp/mds && /tmp/mds/bin/pip install mosaicml-streaming==0.13.0
    /tmp/mds/bin/python tests/data/mds/make.py

The library wants numpy below 2.2 and transformers below 5, so it is no dependency of the tests.
"""

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from PIL import Image
from streaming import MDSWriter, StreamingDataset  # pyright: ignore[reportMissingImports]
from streaming.base.util import merge_index  # pyright: ignore[reportMissingImports]

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)
MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")
NUMBERS = {
    **{f"{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": float for bits in (16, 32, 64)},
    "int": int,
    "str_int": int,
    "str_float": float,
}
OTHERS: dict[str, Callable[[int], object]] = {
    "str": lambda n: ("cat ", "dog", "犬")[n],
    "bytes": lambda n: (b"cat", b" dog", b"\xff")[n],
    "str_decimal": lambda n: Decimal(("1.10", "2.00", "3")[n]),
    "json": lambda n: ("cat", 1.5, ["cat"])[n],
    "pkl": lambda n: {"cat": n},
    "ndarray": lambda n: np.arange(n + 1),
    "ndarray:float32:4": lambda n: np.full(4, n, np.float32),
    "list[png]": lambda n: [picture()] * n,
}


def picture(mode: str = "RGB") -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 2**16, (6, 5), np.uint16))
    return Image.fromarray(RNG.integers(0, 256, (6, 5, 3), np.uint8)).convert(mode)


def encoded(form: str) -> bytes:
    sink = io.BytesIO()
    picture().save(sink, form)
    return sink.getvalue()


def write(
    name: str, columns: dict[str, str], rows: Sequence[dict[str, object]], **options: object
) -> None:
    shutil.rmtree(HERE / name, ignore_errors=True)
    with MDSWriter(out=str(HERE / name), columns=columns, **options) as writer:
        for row in rows:
            writer.write(row)


def seen(value: object) -> str:
    """Pictures and bytes by their digest, pictures of 16 bits by their high byte."""
    if isinstance(value, Image.Image):
        pixels = np.asarray(value)
        if value.mode == "I;16":
            pixels = np.repeat((pixels >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        elif value.mode in ("LA", "RGBA"):
            white = Image.new("RGB", value.size, (255, 255, 255))
            white.paste(value.convert("RGBA"), mask=value.getchannel("A"))
            pixels = np.asarray(white)
        else:
            pixels = np.asarray(value.convert("RGB"))
        return hashlib.sha256(pixels.tobytes()).hexdigest()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def read(name: str) -> list[dict[str, str]]:
    """As the library's own reader has it, from a copy: it unpacks shards beside themselves."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
        rows = StreamingDataset(local=folder, batch_size=1, allow_unsafe_types=True)
        return [{key: seen(rows[n][key]) for key in ("image", "label")} for n in range(len(rows))]


def main() -> None:
    kinds = {"image": "png", "label": "str", "image_id": "str"} | {
        name.replace(":", "_").replace("[", "_").strip("]"): name for name in (*NUMBERS, *OTHERS)
    }
    rows = []
    for n in range(3):
        row = {"image": picture(), "label": f"l{n}", "image_id": f"i{n}"}
        for column, kind in list(kinds.items())[3:]:
            value = OTHERS[kind](n) if kind in OTHERS else NUMBERS[kind]((1, 0.1, 2)[n])
            row[column] = value
        rows.append(row)
    write("kinds", kinds, rows)
    plain = [
        {"image": encoded(form), "label": label}
        for form, label in (("PNG", "cat"), ("JPEG", "dog"), ("WEBP", "cat"), ("PNG", "犬"))
    ]
    columns = {"image": "bytes", "label": "str"}
    write("plain", columns, plain, size_limit=700, hashes=["sha1", "xxh64"])
    for codec in ("zstd", "zstd:12", "gz", "bz2", "br", "snappy"):
        name = f"packed_{codec.replace(':', '_')}"
        write(name, columns, plain, size_limit=700, hashes=["sha256"], compression=codec)
    pixels = [{"image": picture(mode), "label": mode} for mode in MODES]
    write("pil", {"image": "pil", "label": "str"}, pixels)
    jpegs = [{"image": picture(), "label": str(n)} for n in range(2)]
    shutil.rmtree(HERE / "merged", ignore_errors=True)
    for part in ("0", "1"):
        write(f"merged/{part}", {"image": "jpeg", "label": "str"}, jpegs)
    merge_index(str(HERE / "merged"))
    names = sorted(path.name for path in HERE.iterdir() if (path / "index.json").exists())
    told = json.dumps({name: read(name) for name in names}, indent=1, ensure_ascii=False)
    (HERE / "expected.json").write_text(told + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
