#!/usr/bin/env bash
# pillow-jxl-plugin 1.3.8: an Exif object of Pillow, as `image.getexif()` gives it, cannot be saved.
#
# Seen: AttributeError for JPEG XL; JPEG, PNG, WebP and TIFF of Pillow take the same object,
# and JPEG XL takes its bytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" \
    pillow==13.0.0 pillow-jxl-plugin==1.3.8
PYTHONPATH=$folder python3 - <<'PYTHON'
import io
import sys

import pillow_jxl  # noqa: F401  # registers the format
from PIL import Image

exif = Image.Exif()
exif[0x0112] = 6
picture = Image.new("RGB", (4, 2))


def saved(form: str, given: Image.Exif | bytes) -> str:
    sink = io.BytesIO()
    try:
        picture.save(sink, form, exif=given)
    except AttributeError as error:
        return f"AttributeError: {error}"
    with Image.open(sink) as image:
        return str(image.getexif().get(0x0112))


seen = {form: saved(form, exif) for form in ("JPEG", "PNG", "WEBP", "TIFF", "JXL")}
seen["JXL, bytes"] = saved("JXL", exif.tobytes())
for form, what in seen.items():
    print(f"{form}: {what}")
refused = {form for form, what in seen.items() if what != "6"}
if refused != {"JXL"} or "startswith" not in seen["JXL"]:
    sys.exit("changed")
PYTHON
