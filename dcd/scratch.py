"""Temporary folders that a killed process does not leave for ever.

`tempfile` removes its folder unless the process gets SIGKILL or the power goes, and a sort of the
index may have spilled gigabytes into it. Here a folder is locked while its process lives. Whoever
asks for a folder in the same place removes first what nobody holds any more. A disk that knows no
such locks keeps its folders, as with `tempfile`.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "dcd-scratch-"
_INNER = "dcd-scratch"  # a folder that only has the name is somebody's, and stays


@contextlib.contextmanager
def scratch_folder(purpose: str, within: Path | None = None) -> Iterator[Path]:
    """Give an empty folder and remove it afterwards.

    purpose: a word for its name. within: the folder to make it in, hidden; None: that for temporary
    files (TMPDIR). Raises OSError where none can be made.
    """
    place = within or Path(tempfile.gettempdir())
    prefix = f"{'.' if within else ''}{_PREFIX}{purpose}-"
    remove_abandoned(place)
    folder, lock = _made(place, prefix)
    try:
        yield folder / _INNER
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(place: Path) -> None:
    """Remove the scratch folders in `place` whose process is gone; what cannot be removed stays."""
    for found in (*place.glob(f"{_PREFIX}*"), *place.glob(f".{_PREFIX}*")):
        with contextlib.suppress(OSError):
            lock = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (found / _INNER).is_dir():
                    shutil.rmtree(found)
                else:
                    found.rmdir()  # killed before there was more; not if anything is in it
            finally:
                os.close(lock)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder and lock it; another process may have removed it before the lock was held."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                (folder / _INNER).mkdir()
                return folder, lock
            os.close(lock)
