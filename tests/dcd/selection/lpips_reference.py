"""LPIPS of one image to others, one after the other: what faster ways are compared with."""

from collections.abc import Sequence

import numpy as np

from dcd.selection.lpips import Lpips, lpips_input, lpips_vectors


def lpips_distances(lpips: Lpips, query: bytes, candidates: Sequence[bytes]) -> np.ndarray:
    """Return distances (N,) float32 of encoded images to one of them. Raises BadImage."""
    of_query = lpips_vectors(lpips, [lpips_input(query)])
    found = [lpips_vectors(lpips, [lpips_input(data)]) for data in candidates]
    return np.array([((one - of_query) ** 2).sum().item() for one in found], np.float32)
