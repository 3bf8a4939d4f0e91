"""Lay vectors out in two dimensions. Pure; the same vectors give the same places.

First the directions in which they differ most (PCA); of the first fifty of them t-SNE (van der
Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008), begun from the first two, so that
what lies far apart stays so (Kobak and Linderman, "Initialization is critical for preserving global
data structure in both t-SNE and UMAP", Nature Biotechnology 2021). openTSNE (Poličar, Stražar,
Zupan, JStatSoft 2024) does it, on one thread: on two its last bits are others.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from dcd.config import MapMethod
from dcd.tables.vectors import principal_directions
from dcd.threads import one_blas_thread

_DIRECTIONS = 50
_PERPLEXITY = 30
_LEAST_FOR_TSNE = 7  # points; fewer have no neighbours to speak of
_LARGE = 10_000  # points from which on interpolation is the faster approximation


@dataclass(frozen=True, eq=False)
class Layout:
    """Places (N, 2) float32 within -1…1, and what they are made by.

    explained: the share of the vectors' variance that the two directions hold; None for t-SNE.
    """

    places: np.ndarray
    method: MapMethod
    explained: float | None


def has_tsne() -> bool:
    """Tell whether the library of the extra `map` is there."""
    return find_spec("openTSNE") is not None


@one_blas_thread()
def lay_out(vectors: np.ndarray, method: MapMethod, seed: int = 0) -> Layout:
    """Place vectors (N, D) float32. t-SNE of very few points is PCA, and says so.

    Raises ImportError for t-SNE without openTSNE.
    """
    scores, explained = _principal_scores(vectors)
    if method == "tsne" and len(vectors) >= _LEAST_FOR_TSNE:
        return Layout(_fitted(_tsne(scores, seed)), "tsne", None)
    return Layout(_fitted(scores[:, :2]), "pca", explained)


def _principal_scores(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Coordinates (N, d) along the principal directions, largest first, at least two of them.

    Their signs are fixed by their largest number, and the share of the first two comes with them.
    """
    mean, axes = principal_directions(vectors, _DIRECTIONS)
    scores = (vectors - mean) @ axes
    spread = scores.var(axis=0)
    if axes.shape[1] == vectors.shape[1]:  # the axes as they are: turned and put in order here
        covariance = (scores.T @ scores).astype(np.float64)
        turned = np.linalg.eigh(covariance)[1][:, ::-1].astype(np.float32)
        scores, axes = scores @ turned, axes @ turned
        spread = scores.var(axis=0)
    largest = np.abs(axes).argmax(axis=0)
    scores = scores * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1, 1)
    scores = scores.astype(np.float32)
    if scores.shape[1] < 2:
        scores = np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))
    whole = float(vectors.var(axis=0).sum())
    return scores, min(1.0, float(spread[:2].sum()) / whole) if whole > 0 else 1.0


def _tsne(scores: np.ndarray, seed: int) -> np.ndarray:
    from openTSNE import TSNE

    n = len(scores)
    fit = TSNE(
        perplexity=min(_PERPLEXITY, (n - 1) // 3),
        initialization="pca",
        negative_gradient_method="bh" if n < _LARGE else "fft",
        n_jobs=1,
        random_state=seed,
    ).fit(scores)
    return np.asarray(fit)


def _fitted(places: np.ndarray) -> np.ndarray:
    """Bring places within -1…1, both directions by one scale."""
    low, high = places.min(axis=0), places.max(axis=0)
    half = float((high - low).max()) / 2
    return ((places - (low + high) / 2) / (half or 1.0)).astype(np.float32)
