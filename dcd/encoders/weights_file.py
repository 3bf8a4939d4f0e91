"""Find the file of weights that a URI means, and tell its content from others."""

import hashlib
import os
from typing import cast

from dcd.errors import StoreError
from dcd.store.filesystems import locate

WEIGHTS_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")


def weights_file(uri: str) -> str | None:
    """Return the file of weights that a URI means: itself, or the one in a folder; None if neither
    is.

    Raises StoreError.
    """
    located = locate(uri.rstrip("/"))
    if located.fs.isfile(located.path):
        return uri
    files = [f"{uri.rstrip('/')}/{name}" for name in WEIGHTS_IN_A_FOLDER]
    return next((file for file in files if located.fs.isfile(locate(file).path)), None)


def version_of(uri: str) -> str | None:
    """Return what changes when somebody writes local weights anew; None of others.

    Not their content: it is asked for with every shard.
    """
    try:
        if "file" not in locate(uri).fs.protocol:
            return None  # before anything is asked of a server
        file = weights_file(uri)
        if file is None:
            return None
        status = os.stat(locate(file).path)
    except (OSError, StoreError):
        return None  # whoever loads it says what is wrong
    return f"{status.st_size}-{status.st_mtime_ns}"


def content_digest(uri: str) -> str:
    """Return a digest of the bytes of the weights that a URI means.

    Raises OSError or StoreError where they cannot be read.
    """
    located = locate(weights_file(uri) or uri)
    return hashlib.blake2b(cast(bytes, located.fs.cat_file(located.path))).hexdigest()[:32]
