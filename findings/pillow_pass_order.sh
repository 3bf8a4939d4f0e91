#!/usr/bin/env bash
# Pillow 13.0.0: resizing takes the vertical pass first where that is cheaper; Pillow 11.3.0 took the
# horizontal one. Between the passes pixels are rounded to uint8, so a tall picture that is resized
# by different factors has other pixels than before, and than in libraries that keep the old order.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 11.3.0 13.0.0; do
  python3 -m pip install --quiet --disable-pip-version-check --target "$work/$version" \
    "pillow==$version" numpy==2.4.6
done
cat >"$work/seen.py" <<'PY'
import numpy as np
import PIL
from PIL import Image

noise = np.random.default_rng(0).integers(0, 256, (466, 300, 3), np.uint8)
picture, cubic = Image.fromarray(noise), Image.Resampling.BICUBIC


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


once = pixels(picture.resize((256, 256), cubic))
across = pixels(picture.resize((256, 466), cubic).resize((256, 256), cubic))
down = pixels(picture.resize((300, 256), cubic).resize((256, 256), cubic))
first = {(True, False): "horizontal", (False, True): "vertical"}.get(
    (bool((once == across).all()), bool((once == down).all())), "neither"
)
print(PIL.__version__, first, f"{(across != down).mean():.0%} of values hang on the order")
PY
old=$(PYTHONPATH="$work/11.3.0" python3 "$work/seen.py")
new=$(PYTHONPATH="$work/13.0.0" python3 "$work/seen.py")
printf '%s\n' "$old" "$new"
[[ $old == "11.3.0 horizontal "* && $new == "13.0.0 vertical "* ]]
