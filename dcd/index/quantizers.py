"""Use faiss, here and nowhere else: lists for labels too large to scan, codes below float16.

Inverted lists and product quantisation: Jégou, Douze, Schmid, "Product quantization for nearest
neighbor search", TPAMI 2011; the library: Douze et al., arXiv 2401.08281.
"""

from typing import Literal

import faiss
import numpy as np

from dcd.errors import ConfigError

Storage = Literal["float16", "int8", "pq"]
_KMEANS_ITERATIONS = 10
_KMEANS_SEED = 1234
_PQ_BITS = 8
_ASSIGN_ROWS = 8192


def train_centroids(sample: np.ndarray, n_lists: int) -> np.ndarray:
    """Find the centres of `n_lists` lists, (n_lists, D) float32, by k-means on sample (n, D).

    The seed is fixed: the same sample gives the same centres.
    """
    kmeans = faiss.Kmeans(
        sample.shape[1],
        n_lists,
        niter=_KMEANS_ITERATIONS,
        seed=_KMEANS_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    kmeans.train(np.ascontiguousarray(sample))
    assert kmeans.centroids is not None
    return kmeans.centroids


def nearest_lists(vectors: np.ndarray, centroids: np.ndarray, n: int) -> np.ndarray:
    """Find the `n` lists with the nearest centres for vectors (N, D): (N, n) int, in order."""
    found = [
        faiss.knn(vectors[start : start + _ASSIGN_ROWS], centroids, n)[1]
        for start in range(0, len(vectors), _ASSIGN_ROWS)
    ]
    return np.concatenate([np.empty((0, n), np.int64), *found])


def code_bytes_of(storage: Storage, dim: int, max_pq_bytes: int) -> int:
    """Return the bytes of a vector as the index stores it."""
    if storage == "pq":
        return max(n for n in range(1, max_pq_bytes + 1) if dim % n == 0)
    return dim if storage == "int8" else 2 * dim


def n_parameters(storage: Literal["int8", "pq"], dim: int) -> int:
    """Return how many float32 numbers make a codec."""
    return 2 * dim if storage == "int8" else 2**_PQ_BITS * dim


class Codec:
    """A trained quantiser: (N, D) float32 ↔ (N, code_bytes) uint8, with loss.

    code_bytes: D for int8; for pq the number of parts that a vector is cut into. parameters:
    float32 numbers that make the codec again: the smallest value and the range of every dimension
    (int8), or the centres (parts, 256, D ÷ parts).
    """

    def __init__(
        self, storage: Literal["int8", "pq"], dim: int, code_bytes: int, parameters: np.ndarray
    ):
        self.storage: Literal["int8", "pq"] = storage
        self.dim = dim
        self.code_bytes = code_bytes
        self.parameters = parameters
        if storage == "int8":
            scalar = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit)
            faiss.copy_array_to_vector(parameters, scalar.sq.trained)
            self._index: faiss.Index = scalar
        else:
            product = faiss.IndexPQ(dim, code_bytes, _PQ_BITS)
            faiss.copy_array_to_vector(parameters, product.pq.centroids)
            self._index = product
        self._index.is_trained = True

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        return self._index.sa_encode(np.ascontiguousarray(vectors, np.float32))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self._index.sa_decode(np.ascontiguousarray(codes))


def train_codec(sample: np.ndarray, storage: Literal["int8", "pq"], max_pq_bytes: int) -> Codec:
    """Train on sample (n, D) float32. int8: D bytes a vector; pq: at most `max_pq_bytes`.

    Raises ConfigError if there are too few rows for a product quantiser.
    """
    dim = sample.shape[1]
    if storage == "pq" and len(sample) < 2**_PQ_BITS:
        raise ConfigError(
            [
                f"index.storage: pq needs {2**_PQ_BITS} vectors to train on, the pool has "
                f"{len(sample)}; use float16 or int8"
            ]
        )
    if storage == "int8":
        low, high = sample.min(axis=0), sample.max(axis=0)
        return Codec(storage, dim, dim, np.concatenate([low, high - low]).astype(np.float32))
    n_parts = code_bytes_of(storage, dim, max_pq_bytes)
    quantizer = faiss.IndexPQ(dim, n_parts, _PQ_BITS)
    quantizer.pq.cp.seed = _KMEANS_SEED
    quantizer.pq.cp.niter = _KMEANS_ITERATIONS
    quantizer.train(np.ascontiguousarray(sample, np.float32))
    return Codec(storage, dim, n_parts, faiss.vector_to_array(quantizer.pq.centroids))
