#!/usr/bin/env bash
# mosaicml-streaming 0.13.0: a palette picture written with the encoding `pil` comes back black.
#
# The encoding keeps width, height, mode and the bare pixels, which for mode P are places in a
# palette that is not kept. Seen: a GIF-like picture with four colours is written and read without
# a word, and every pixel of it is (0, 0, 0). The encoding `png` keeps it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Its encodings alone: the whole package wants torch and transformers, which these do not use.
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" --no-deps \
    mosaicml-streaming==0.13.0 numpy==2.1.3 pillow==11.3.0 typing-extensions==4.15.0
PYTHONPATH=$folder python3 - "$folder" <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

assert version("mosaicml-streaming") == "0.13.0", version("mosaicml-streaming")
path = Path(sys.argv[1], "streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings", path)
mds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mds)
colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
picture = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE)


def seen(image: Image.Image) -> list[list[int]]:
    return np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()


found = {name: seen(mds.mds_decode(name, mds.mds_encode(name, picture))) for name in ("pil", "png")}
print("written:", seen(picture))
print("read as pil:", found["pil"])
print("read as png:", found["png"])
if found["pil"] != [[0, 0, 0]] * 4 or found["png"] != seen(picture):
    sys.exit("changed")
PYTHON
