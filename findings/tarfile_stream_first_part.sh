#!/usr/bin/env bash
# CPython 3.11's tarfile: of a packed tar of several streams, the mode for streams reads the first alone.
#
# pbzip2, pixz, `pigz` under `cat` and BGZF write such files; gzip, bzip2 and xz unpack them whole.
# Seen: `r:*` lists all members; `r|*`, which reads without seeking, ends with a ReadError after
# those of the first stream.
set -euo pipefail
python3 - <<'PYTHON'
import bz2
import gzip
import io
import lzma
import sys
import tarfile

assert sys.version_info[:2] == (3, 11), sys.version
plain = io.BytesIO()
with tarfile.open(fileobj=plain, mode="w") as archive:
    for number in range(3):
        member = tarfile.TarInfo(f"{number}.bin")
        member.size = 20_000
        archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
half = len(plain.getvalue()) // 2
parts = plain.getvalue()[:half], plain.getvalue()[half:]


def listed(packed: bytes, mode: str) -> tuple[int, str]:
    n = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode=mode) as archive:
            for _ in archive:
                n += 1
    except (tarfile.TarError, EOFError) as error:
        return n, f"{type(error).__name__}: {error}"
    return n, "end"


seen = {}
for module in (gzip, bz2, lzma):
    packed = b"".join(map(module.compress, parts))
    assert module.decompress(packed) == plain.getvalue(), module
    for mode in ("r:*", "r|*"):
        seen[module.__name__, mode] = listed(packed, mode)
        print(module.__name__, mode, *seen[module.__name__, mode])
if any(n != 3 for (_, mode), (n, _) in seen.items() if mode == "r:*"):
    sys.exit("changed: seeking loses members")
if any(n == 3 and end == "end" for (_, mode), (n, end) in seen.items() if mode == "r|*"):
    sys.exit("changed: the stream is read whole")
PYTHON
