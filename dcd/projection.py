"""Principal directions of vectors: comparisons in fewer numbers."""

import numpy as np


def principal_directions(vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and the first n principal directions (D, d), orthonormal, of vectors (N, D).

    All float32. d is n; where D is not greater, the directions are the axes and d is D.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    dim = vectors.shape[1]
    if dim <= n:
        return mean, np.eye(dim, dtype=np.float32)
    centred = vectors - mean
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return mean, np.ascontiguousarray(directions[:, ::-1][:, :n].astype(np.float32))
