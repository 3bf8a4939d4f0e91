"""Find which vectors lie so near to each other that their images are copies of one picture.

The same picture scaled, cropped or compressed again moves its embedding by little. A projection on
a few directions never makes a distance larger, so it rules most pairs out at a tenth of the cost.
"""

from dataclasses import dataclass

import numpy as np

from dcd.tables.vectors import principal_directions
from dcd.threads import one_blas_thread

BLOCK_BYTES = 2**26  # of similarities at once
ROUNDING = 1e-4  # of a squared distance in float32
_DIRECTIONS = 128
_FIT_ROWS = 10_000  # of which the directions are learnt
_FEW_ROWS = 4000  # cost less in all dimensions than their directions do
_PAIRS_AT_ONCE = 20_000  # compared in all dimensions: bounds memory


@dataclass(frozen=True)
class Shadowed:
    """units: (M, D) float32, of length 1. shadows: (M, d), projected; half_norms: theirs, (M,)."""

    units: np.ndarray
    shadows: np.ndarray
    half_norms: np.ndarray


def directions_of(units: np.ndarray) -> np.ndarray:
    """Return the (D, d) float32, orthonormal, in which vectors like these differ most."""
    return principal_directions(units[:_FIT_ROWS], _DIRECTIONS)[1]


def shadowed(units: np.ndarray, directions: np.ndarray) -> Shadowed:
    """Project (M, D) vectors of length 1."""
    shadows = units @ directions
    return Shadowed(units, shadows, np.einsum("md,md->m", shadows, shadows) / 2)


@one_blas_thread()
def copy_groups(units: np.ndarray, max_distance: float) -> np.ndarray:
    """Number the groups of (N, D) vectors of length 1 that chains of near copies connect: (N,) int.

    Two are near copies if their l2 distance, 0…2, is below max_distance.
    """
    groups = np.arange(len(units))
    if max_distance <= 0 or len(units) < 2:
        return groups
    if len(units) <= _FEW_ROWS:
        of = Shadowed(units, units, np.full(len(units), 0.5))
    else:
        of = shadowed(units, directions_of(units))
    block = max(1, BLOCK_BYTES // (4 * len(units)))
    limit = (max_distance**2 + ROUNDING) / 2
    for start in range(0, len(units), block):
        part = slice(start, start + block)
        halved = of.half_norms - of.shadows[part] @ of.shadows.T
        one, other = np.nonzero(halved < limit - of.half_norms[part, None])
        one += start
        before = other < one
        groups = _joined(groups, units, np.stack([one[before], other[before]]), max_distance)
    return groups


def _joined(
    groups: np.ndarray, units: np.ndarray, pairs: np.ndarray, max_distance: float
) -> np.ndarray:
    """Join the groups of those pairs (2, P) that are near copies in all dimensions too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nearest = 1 - max_distance**2 / 2
    for start in range(0, pairs.shape[1], _PAIRS_AT_ONCE):
        one, other = pairs[:, start : start + _PAIRS_AT_ONCE]
        apart = groups[one] != groups[other]
        one, other = one[apart], other[apart]
        near = np.einsum("pd,pd->p", units[one], units[other]) > nearest
        if near.any():
            ends = groups[one[near]], groups[other[near]]
            links = coo_array((np.ones(len(ends[0])), ends), shape=(len(units),) * 2)
            groups = connected_components(links, directed=False)[1][groups]
    return groups
