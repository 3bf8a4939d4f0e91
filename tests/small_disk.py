"""A disk of a few kilobytes: a tmpfs that a test mounts, fills and enlarges."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a disk at `folder`; options: size=64k, nr_inodes=20, ro. Skips without the right."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip(f"mounting wants root: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk: a larger size, writable."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def litter(folder: Path) -> list[Path]:
    """Return what is neither whole nor published: temporary files."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") and path.is_file()]


def fill(folder: Path) -> Path:
    """Write a file until nothing more fits; gives its path."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(4096))
        except OSError:
            return path
