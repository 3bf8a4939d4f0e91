"""Stores that earlier versions wrote, with the images that they are about.

Each archive of `old_stores` was made at the commit of its name, in a checkout of it with this file
beside its tests; 397ee96 is the first with a gate, c9f7abf the first whose reruns reuse heads,
dd93968 the last before the rooms:

    git worktree add ../before dd93968 && cp tests/old_store.py ../before/tests/
    cd ../before && python -m tests.old_store dd93968.tar.xz
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.case import write_case

_ARCHIVES = Path(__file__).parent / "old_stores"
_INPUTS = ("*.parquet", "config.yaml")
_WRITTEN = 1_700_000_000  # a shard is known by its size and the time at which it was written


@dataclass(frozen=True)
class OldStore:
    """The commit that wrote a store, its run, and whether today's defaults select the same."""

    commit: str
    run_id: str
    selects_the_same: bool = True


OLD_STORES = (
    OldStore("397ee96", "tiny-b5cea9039eb4", selects_the_same=False),
    OldStore("c9f7abf", "tiny-e3120ea79d67"),
    OldStore("dd93968", "tiny-e3120ea79d67"),
)


def date_inputs(folder: Path) -> None:
    """Give the images the time at which the store saw them written."""
    for pattern in _INPUTS:
        for path in folder.glob(pattern):
            os.utime(path, (_WRITTEN, _WRITTEN))


def unpack(old: OldStore, folder: Path) -> Path:
    """Unpack the case below `folder` and return its config; its paths count from `folder`."""
    with tarfile.open(_ARCHIVES / f"{old.commit}.tar.xz") as archive:
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
