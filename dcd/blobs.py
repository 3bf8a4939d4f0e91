"""Vectors as opaque bytes and back: how float16 travels through DuckDB, which has no such type."""

import numpy as np
import pyarrow as pa


def to_blobs(vectors: np.ndarray) -> pa.FixedSizeBinaryArray:
    """(N, D) numbers of any type → N values of equally many bytes."""
    n_bytes = vectors.shape[1] * vectors.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(vectors))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(n_bytes), len(vectors), [None, buffer])


def from_blobs(blobs: pa.Array, dtype: type, n_bytes: int) -> np.ndarray:
    """The inverse; blobs: binary without nulls, of `n_bytes` each."""
    fixed = blobs.cast(pa.binary(n_bytes))
    width = n_bytes // np.dtype(dtype).itemsize
    if len(fixed) == 0:
        return np.empty((0, width), dtype)
    flat = np.frombuffer(fixed.buffers()[1], dtype)
    return flat[fixed.offset * width : (fixed.offset + len(fixed)) * width].reshape(-1, width)
