"""A store that an earlier version wrote, with the images that it is about.

`old_stores/dd93968.tar.xz` was made at commit dd93968, the last before the rooms, in a checkout of
it with this file beside its tests:

    git worktree add ../before dd93968 && cp tests/old_store.py ../before/tests/
    cd ../before && python -m tests.old_store dd93968.tar.xz
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.case import write_case

ARCHIVE = Path(__file__).parent / "old_stores" / "dd93968.tar.xz"
_INPUTS = ("*.parquet", "config.yaml")
_WRITTEN = 1_700_000_000  # a shard is known by its size and the time at which it was written


def date_inputs(folder: Path) -> None:
    """Give the images the time at which the store saw them written."""
    for pattern in _INPUTS:
        for path in folder.glob(pattern):
            os.utime(path, (_WRITTEN, _WRITTEN))


def unpack(folder: Path) -> Path:
    """Unpack the case below `folder` and return its config; its paths count from `folder`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    date_inputs(folder)
    return folder / "config.yaml"


def make(archive: Path) -> None:
    """Run a tiny case with the version at hand and pack its images, its config and its store."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        write_case(
            Path(),
            seeds=(0,),
            compare={"baselines": ["error_sample", "random"]},
        )
        date_inputs(Path())
        subprocess.run([sys.executable, "-m", "flows", "run", "config.yaml"], check=True)
        with tarfile.open(archive, "w:xz") as packed:
            for path in sorted(Path().iterdir()):
                packed.add(path, filter=_small)


def _small(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out the weights of models: a finished cell is not asked for them again."""
    return None if member.name.endswith(".safetensors") else member


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
