"""Turn embedding columns into matrices and back, into blobs, into principal directions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dcd.threads import one_blas_thread

_EXPONENT = 0x7C00  # bits of a float16


def to_blobs(vectors: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Turn (N, D) numbers of any type into N values of equally many bytes."""
    n_bytes = vectors.shape[1] * vectors.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(vectors))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(n_bytes), len(vectors), [None, buffer])


def from_blobs(blobs: pa.Array, dtype: type, n_bytes: int) -> np.ndarray:
    """Invert `to_blobs`; blobs: binary without nulls, of `n_bytes` each."""
    fixed = blobs.cast(pa.binary(n_bytes))
    width = n_bytes // np.dtype(dtype).itemsize
    if len(fixed) == 0:
        return np.empty((0, width), dtype)
    flat = np.frombuffer(fixed.buffers()[1], dtype)
    return flat[fixed.offset * width : (fixed.offset + len(fixed)) * width].reshape(-1, width)


def lists_as_blobs(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn an embedding column of float16 into one of as many bytes; nothing is copied."""
    dim = lists.type.list_size
    halves = [chunk.flatten().to_numpy().reshape(-1, dim) for chunk in lists.chunks]
    return pa.chunked_array([to_blobs(vectors) for vectors in halves], pa.binary(2 * dim))


def blobs_as_lists(blobs: pa.ChunkedArray, kind: pa.FixedSizeListType) -> pa.ChunkedArray:
    """Invert `lists_as_blobs`. kind: of the embedding column."""
    n_bytes = 2 * kind.list_size
    lists = [vector_lists(from_blobs(chunk, np.float16, n_bytes), kind) for chunk in blobs.chunks]
    return pa.chunked_array(lists, kind)


@one_blas_thread()
def principal_directions(vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and first n principal directions (D, d), orthonormal, of vectors (N, D).

    All float32. d is n; where D is not greater, the directions are the axes and d is D.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    dim = vectors.shape[1]
    if dim <= n:
        return mean, np.eye(dim, dtype=np.float32)
    centred = vectors - mean
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return mean, np.ascontiguousarray(directions[:, ::-1][:, :n].astype(np.float32))


def embedding_matrix(table: pa.Table) -> np.ndarray:
    """Return the embedding column of a table: (N, D) float32."""
    return stacked_vectors([table])


def vector_lists(vectors: np.ndarray, kind: pa.DataType) -> pa.FixedSizeListArray:
    """Make an embedding column of that type from vectors (N, D); its numbers are not copied."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind)


def stacked_vectors(tables: Sequence[pa.Table]) -> np.ndarray:
    """Put the embedding columns of tables one below the other: (N, D) float32.

    Each number goes to its place at once: there is no second copy of what may be most of memory.
    """
    dim = tables[0].schema.field("embedding").type.list_size
    stacked = np.empty((sum(table.num_rows for table in tables), dim), np.float32)
    row = 0
    for chunk in (chunk for table in tables for chunk in table["embedding"].chunks):
        flat = chunk.flatten().to_numpy(zero_copy_only=False)
        stacked[row : row + len(chunk)] = flat.reshape(-1, dim)
        row += len(chunk)
    return stacked


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Bring vectors (N, D) to length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def unit_vectors(table: pa.Table) -> np.ndarray:
    """Return the embedding column of a table, each vector at length 1: (N, D) float32."""
    return unit_length(embedding_matrix(table))


def why_not_finite(table: pa.Table) -> str | None:
    """Say which rows have an embedding that holds NaN or infinite numbers; None if none has."""
    if all(_all_finite(chunk) for chunk in table["embedding"].chunks):
        return None
    finite = np.isfinite(embedding_matrix(table)).all(axis=1)
    bad = table["image_id"].filter(pa.array(~finite))
    return f"{len(bad)} vectors hold NaN or infinite numbers, such as that of {bad[0].as_py()!r}"


def _all_finite(vectors: pa.FixedSizeListArray) -> bool:
    numbers = vectors.flatten().to_numpy(zero_copy_only=False)
    if numbers.dtype != np.float16:
        return bool(np.isfinite(numbers).all())
    # A float16 is finite if an exponent bit is 0: four times as fast as through float32.
    return not ((numbers.view(np.uint16) & _EXPONENT) == _EXPONENT).any()
