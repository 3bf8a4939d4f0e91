"""Find the file of weights that a URI means."""

from dcd.store.filesystems import locate

_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")


def weights_file(uri: str) -> str | None:
    """Return the file of weights that a URI means: itself, or the one in a folder; None if neither
    is.

    Raises StoreError.
    """
    located = locate(uri.rstrip("/"))
    if located.fs.isfile(located.path):
        return uri
    files = [f"{uri.rstrip('/')}/{name}" for name in _IN_A_FOLDER]
    return next((file for file in files if located.fs.isfile(locate(file).path)), None)
