"""Averages of linear heads, and heads that were fitted in fewer dimensions.

The average of the weights of linear heads is a linear head, whose logits are the average of theirs:
so what lies between two of them costs no fit, and is saved and served as one (WiSE-FT: Wortsman et
al. 2022, "Robust fine-tuning of zero-shot models", CVPR, for networks).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dcd.tables.vectors import principal_directions
from dcd.threads import one_blas_thread
from dcd.training.head import LinearHead, Standardizer

_MAX_DIM = 512
_FIT_ROWS = 10_000  # of which the directions are learnt


def average_heads(heads: Mapping[str, LinearHead], shares: Mapping[str, float]) -> LinearHead:
    """Average heads with the weights Σ share · head.

    shares: by the heads' names, their sum being 1.
    """
    used = [(share, heads[name]) for name, share in shares.items() if share]
    weight = sum(share * head.weight for share, head in used)
    bias = sum(share * head.bias for share, head in used)
    classes = used[0][1].classes
    return LinearHead(classes, np.asarray(weight, np.float32), np.asarray(bias, np.float32))


@dataclass(frozen=True)
class Compression:
    """Standardised features on their first principal directions: a fit costs less than half.

    mean: (D,) float32, of standardised features. directions: (D, d) float32, orthonormal.
    """

    standardizer: Standardizer
    mean: np.ndarray
    directions: np.ndarray

    @one_blas_thread()
    def compress(self, features: np.ndarray) -> np.ndarray:
        """Turn raw features (N, D) into (N, d) float32."""
        scaled = self.directions / self.standardizer.std[:, None]
        return features @ scaled - (self.standardizer.mean @ scaled + self.mean @ self.directions)

    @one_blas_thread()
    def expand(self, head: LinearHead) -> LinearHead:
        """Return the head on raw features that says the same as `head` on compressed ones."""
        weight = (head.weight @ self.directions.T) / self.standardizer.std
        bias = head.bias - weight @ self.standardizer.mean
        bias = bias - head.weight @ (self.mean @ self.directions)
        return LinearHead(head.classes, weight.astype(np.float32), bias.astype(np.float32))


@one_blas_thread()
def fit_compression(
    features: np.ndarray, standardizer: Standardizer, rows: np.ndarray | None = None
) -> Compression:
    """Find the principal directions of features (N, D), standardised, of a sample of them.

    rows: which of them count, in which order; default: all, as they stand.
    """
    rows = np.arange(len(features)) if rows is None else rows
    sample = features[rows[:: -(-len(rows) // _FIT_ROWS)]]
    standardised = (sample - standardizer.mean) / standardizer.std
    return Compression(standardizer, *principal_directions(standardised, _MAX_DIM))
