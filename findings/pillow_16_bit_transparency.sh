#!/usr/bin/env bash
# Pillow 13.0.0: of the transparent colour of a 16-bit RGB PNG (tRNS) the low bytes are compared with
# pixels of which it keeps the high bytes, so that another colour is transparent than the file says.
#
# Seen: the transparent colour is 0x1234 in each sample; converted to RGBA, a pixel of it is opaque,
# and one of 0x3400 is transparent. In 8 bits the right one of two pixels is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$folder" pillow==13.0.0
PYTHONPATH=$folder python3 - <<'PYTHON'
import io
import struct
import sys
import zlib

from PIL import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def alphas(bits: int, clear: int, other: int) -> list[int]:
    """Of two grey pixels in RGB, the transparent colour and another one."""
    sample = "H" if bits == 16 else "B"
    row = struct.pack(f">6{sample}", *[clear] * 3, *[other] * 3)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 2, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">3H", *[clear] * 3))
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )
    with Image.open(io.BytesIO(data)) as image:
        found = list(image.convert("RGBA").getchannel("A").tobytes())
        print(f"{bits} bits: transparency {image.info['transparency']}, alphas {found}")
    return found


if (alphas(8, 0x12, 0x34), alphas(16, 0x1234, 0x3400)) != ([0, 255], [255, 0]):
    sys.exit("changed")
PYTHON
