"""Averages of linear heads, and heads that were fitted in fewer dimensions.

The average of the weights of linear heads is a linear head, whose logits are the average of theirs:
so what lies between two of them costs no fit, and is saved and served as one (WiSE-FT: Wortsman et
al. 2022, "Robust fine-tuning of zero-shot models", CVPR, for networks).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dcd.tables.vectors import principal_directions
from dcd.threads import in_blocks, one_blas_thread
from dcd.training.head import LinearHead, Standardizer

_MAX_DIM = 512
_FIT_ROWS = 10_000  # of which the directions are learnt
_BLOCK_ROWS = 4096


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

    directions: (D, d) float32, orthonormal. offset: (d,) float32, where the mean of standardised
    features lies on them.
    """

    standardizer: Standardizer
    directions: np.ndarray
    offset: np.ndarray

    @one_blas_thread()
    def compress(self, features: np.ndarray) -> np.ndarray:
        """Turn raw features (N, D) into (N, d) float32."""
        scaled = self.directions / self.standardizer.std[:, None]
        offset = self.standardizer.mean @ scaled + self.offset
        found = np.empty((len(features), scaled.shape[1]), np.float32)

        def fill(rows: slice) -> None:
            np.matmul(features[rows], scaled, out=found[rows])
            found[rows] -= offset

        in_blocks(len(features), _BLOCK_ROWS, fill)
        return found

    @one_blas_thread()
    def expand(self, head: LinearHead) -> LinearHead:
        """Return the head on raw features that says the same as `head` on compressed ones."""
        weight = (head.weight @ self.directions.T) / self.standardizer.std
        bias = head.bias - weight @ self.standardizer.mean
        bias = bias - head.weight @ self.offset
        return LinearHead(head.classes, weight.astype(np.float32), bias.astype(np.float32))

    def as_head(self) -> LinearHead:
        """Return directions and offset as a head, which a store keeps: a class a direction."""
        names = tuple(str(i) for i in range(len(self.offset)))
        return LinearHead(names, np.ascontiguousarray(self.directions.T), self.offset)

    @classmethod
    def of_head(cls, standardizer: Standardizer, head: LinearHead) -> "Compression":
        """Invert `as_head`."""
        return cls(standardizer, np.ascontiguousarray(head.weight.T), head.bias)


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
    mean, directions = principal_directions(standardised, _MAX_DIM)
    return Compression(standardizer, directions, mean @ directions)
