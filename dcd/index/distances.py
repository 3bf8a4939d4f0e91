"""Compute l2 distances of vectors: exactly where they decide, by bounds where there are many."""

import numpy as np
import pyarrow as pa

_MAX_PAIR_BYTES = 2**24  # of differences of pairs held at once


def doubles(table: pa.Table) -> np.ndarray:
    """Return the embedding column as (N, D) float64."""
    dim = table.schema.field("embedding").type.list_size
    halves = table["embedding"].combine_chunks().flatten().to_numpy()
    return halves.reshape(-1, dim).astype(np.float64)


def distances(xq: np.ndarray, xb: np.ndarray, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Compute l2 distances (P,) of pairs: row query[i] of xq and row row[i] of xb, float64.

    Summed in float64, one dimension after the other whatever the machine, then rounded to float32.
    """
    distance = np.empty(len(query), np.float32)
    step = max(1, _MAX_PAIR_BYTES // (8 * xq.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        difference = np.ascontiguousarray((xq[query[part]] - xb[row[part]]).T)
        distance[part] = np.sqrt((difference**2).sum(axis=0))
    return distance


def l2_matrix(xq: np.ndarray, xb: np.ndarray) -> np.ndarray:
    """Compute the l2 distances (Q, N) of xq (Q, D) to xb (N, D), in their own precision."""
    norms = np.einsum("qd,qd->q", xq, xq)[:, None] + np.einsum("nd,nd->n", xb, xb)
    return np.sqrt(np.maximum(norms - 2 * xq @ xb.T, 0))


def distance_bounds(xq: np.ndarray, xb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bound the squared l2 distances (Q, N) of xq (Q, D) to xb (N, D), float64, from both sides.

    A sum of D products is off by at most D·eps·(sum of magnitudes) in whatever order it is added
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); the factor 4 and
    the 8 terms more are slack. Distances are compared after rounding to float32, hence its eps.
    """
    q_norms = np.einsum("qd,qd->q", xq, xq)[:, None]
    b_norms = np.einsum("nd,nd->n", xb, xb)[None, :]
    squared = q_norms + b_norms - 2 * (xq @ xb.T)
    error = 4 * (xq.shape[1] + 8) * np.finfo(np.float64).eps * (q_norms + b_norms)
    error += 4 * np.finfo(np.float32).eps * np.abs(squared)
    return squared - error, squared + error
