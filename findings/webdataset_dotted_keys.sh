#!/usr/bin/env bash
# webdataset 1.0.2: what ShardWriter writes under keys with a dot is not what WebDataset reads.
#
# Seen: two samples with the keys `photo.1` and `photo.2` are written without a complaint, and come
# back as one sample `photo` that has the images of both, under `1.jpg` and `2.jpg`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" webdataset==1.0.2
PYTHONPATH=$folder python3 - "$folder/shard-%04d.tar" <<'PYTHON'
import sys
from importlib.metadata import version

import webdataset

assert version("webdataset") == "1.0.2", version("webdataset")
with webdataset.ShardWriter(sys.argv[1], verbose=0) as writer:
    for key in ("photo.1", "photo.2"):
        writer.write({"__key__": key, "jpg": key.encode()})
shard = sys.argv[1] % 0
read = [
    {name: value for name, value in sample.items() if name == "__key__" or "jpg" in name}
    for sample in webdataset.WebDataset(shard, shardshuffle=False)
]
print("written: two samples, photo.1 and photo.2")
print("read:", read)
if [sorted(sample) for sample in read] != [["1.jpg", "2.jpg", "__key__"]]:
    sys.exit("changed: the samples are told apart")
PYTHON
