#!/usr/bin/env bash
# pillow 13.0.0: saving as AVIF takes the orientation out of the caller's Exif object.
#
# Seen: what is saved with the same Exif after an AVIF has no orientation any more, and shows lying
# on its side; WebP and JPEG before it keep it, and leave the object as it was.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pillow==13.0.0
PYTHONPATH=$folder python3 - <<'PYTHON'
import io
import sys

import PIL
from PIL import Image

assert PIL.__version__ == "13.0.0", PIL.__version__
ORIENTATION = 0x0112


def saved(form: str, exif: Image.Exif) -> int | None:
    sink = io.BytesIO()
    Image.new("RGB", (4, 2)).save(sink, form, exif=exif)
    with Image.open(sink) as image:
        return image.getexif().get(ORIENTATION)


exif = Image.Exif()
exif[ORIENTATION] = 6
seen = []
for form in ("JPEG", "WEBP", "AVIF", "JPEG"):
    written = saved(form, exif)
    seen.append((form, written, exif.get(ORIENTATION)))
    print(f"{form}: the file says {written}, the caller's object {exif.get(ORIENTATION)} now")
if seen != [("JPEG", 6, 6), ("WEBP", 6, 6), ("AVIF", 6, None), ("JPEG", None, None)]:
    sys.exit("changed")
PYTHON
