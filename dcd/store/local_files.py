"""Publish local files in one step, so that a process that is killed leaves nothing behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

_OPEN_FILES = "/proc/self/fd"


@contextmanager
def published(path: str) -> Iterator[BinaryIO]:
    """Give a file to write, which stands at `path` when the block ends; not if it raises.

    Until then it has no name, where the filesystem knows such files (Linux: O_TMPFILE), so nothing
    is left of a process that is killed. Elsewhere a hidden file beside `path` may be left.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    nameless = _nameless(folder)
    if nameless is None:
        with _temporary_in(folder) as temporary:
            with temporary.open("xb") as file:
                yield file
            os.replace(temporary, path)
        return
    with nameless:
        yield nameless
        nameless.flush()
        _name(nameless, path)


def linked(local: Path, path: str) -> bool:
    """Give a finished file a second name, `path`, without a copy; False on another disk.

    What stands there already is replaced in one step.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError), _temporary_in(folder) as temporary:
        os.link(local, temporary)
        os.replace(temporary, path)
        return True
    return False


def is_temporary(key: str) -> bool:
    """Tell whether a file is one that is being written, or was when its process was killed."""
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


def _nameless(folder: Path) -> BinaryIO | None:
    """Open a file without a name in a folder; None where there can be none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.exists(_OPEN_FILES):
        return None
    try:
        return os.fdopen(os.open(folder, flag | os.O_WRONLY | os.O_CLOEXEC, 0o666), "wb")
    except OSError:  # what else is wrong shows when a file with a name is opened
        return None


def _name(file: BinaryIO, path: str) -> None:
    """Link an open file to `path`. What stands there already is replaced in one step."""
    opened = f"{_OPEN_FILES}/{file.fileno()}"
    # With a folder's descriptor, which an absolute path leaves unused, the link is followed.
    unused = file.fileno()
    with suppress(FileExistsError):
        os.link(opened, path, src_dir_fd=unused, follow_symlinks=True)
        return
    with _temporary_in(Path(path).parent) as temporary:
        os.link(opened, temporary, src_dir_fd=unused, follow_symlinks=True)
        os.replace(temporary, path)


@contextmanager
def _temporary_in(folder: Path) -> Iterator[Path]:
    """A name in a folder that nobody else has; it is gone at the end of the block."""
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
