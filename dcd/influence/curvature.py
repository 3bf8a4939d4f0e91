"""The curvature of a fitted head's loss, and linear systems in it. Pure: arrays in, arrays out.

A head is fitted to standardised features x (a 1 is appended for the bias), with parameters V, (C,
D + 1), and minimises

    F(V) = sum_i s_i loss_i(V x_i) + l2 / 2 ‖V without the bias‖²,   s_i = w_i / sum_j w_j.

Its Hessian times a direction U is sum_i s_i (J_i U x_i) x_iᵀ + l2 U, where J_i is the Hessian of an
image's loss by its logits. It is never formed. J_i is taken from the losses' own slopes by central
differences, so that every loss of `dcd.training.losses` has the curvature that it was fitted with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from dcd.cells.fits import HeadFit
from dcd.errors import DCDError
from dcd.threads import one_blas_thread
from dcd.training.losses import ImageLosses
from dcd.training.robust_head import losses_of

_STEP = 1e-4  # of the differences, for the largest change of an image's logits
_SAMPLE_ROWS = 10_000  # of which the preconditioner is made
_MAX_ITERATIONS = 2000
_DAMPINGS = (0.0, 0.01, 0.1, 1.0, 10.0)  # times l2


class NotAMinimum(DCDError):
    """The loss curves down somewhere: what was fitted is no minimum, and has no influence."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """The loss around the parameters of a fit. features: (N, D + 1); share: (N,); at: (C, D + 1).

    rate: of the penalty, (D + 1,): l2, and 0 for the bias.
    """

    features: np.ndarray
    losses: ImageLosses
    share: np.ndarray
    rate: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, fit: HeadFit, dtype: type = np.float32) -> "Curvature":
        """Take a fit apart. dtype: of the features, and so of products with them."""
        n, dim = fit.data.features.shape
        features = np.ones((n, dim + 1), dtype)
        np.subtract(fit.data.features, fit.standardizer.mean, out=features[:, :dim])
        features[:, :dim] /= fit.standardizer.std
        weight = np.asarray(fit.data.weight, float)
        rate = np.r_[np.full(dim, fit.config.l2), 0.0]
        at = parameters_of(fit)
        return cls(features, losses_of(fit.data, fit.config), weight / weight.sum(), rate, at)

    def logits(self, parameters: np.ndarray) -> np.ndarray:
        """(N, C) float64."""
        return (self.features @ parameters.T.astype(self.features.dtype)).astype(float)

    def loss(self, parameters: np.ndarray) -> float:
        """The penalised mean loss."""
        losses = self.losses(self.logits(parameters), slice(None))[0]
        return float(self.share @ losses + np.sum(self.rate * parameters**2) / 2)

    def slopes(self, parameters: np.ndarray) -> np.ndarray:
        """Every image's gradient by its logits: (N, C) float64."""
        return self.losses(self.logits(parameters), slice(None))[1]

    def gradient(self, parameters: np.ndarray) -> np.ndarray:
        """(C, D + 1) float64."""
        return self._gathered(self.slopes(parameters)) + self.rate * parameters

    def _gathered(self, slopes: np.ndarray) -> np.ndarray:
        weighted = (self.share[:, None] * slopes).astype(self.features.dtype)
        return (weighted.T @ self.features).astype(float)

    @one_blas_thread()
    def solve(
        self, right: np.ndarray, tolerance: float = 1e-5, near: "Curvature | None" = None
    ) -> tuple[np.ndarray, float]:
        """Solve Hessian U = right, both (C, D + 1), by preconditioned conjugate gradients.

        tolerance: of the residual, relative. near: another one close by, whose preconditioner
        serves as well. Returns U and the damping that was added to the
        diagonal, 0 where the loss curves upwards. Raises NotAMinimum where no damping helps.
        """
        logits = self.logits(self.at)
        inverse = self.rough_inverse if near is None else near.rough_inverse
        shape, size = right.shape, right.size
        for times in _DAMPINGS:
            damping = times * float(self.rate[0])

            def product(flat: np.ndarray, damping: float = damping) -> np.ndarray:
                direction = flat.reshape(shape)
                return (self._product(direction, logits) + damping * direction).ravel()

            hessian = _operator(size, product)
            found, failed = cg(
                hessian, right.ravel(), rtol=tolerance, maxiter=_MAX_ITERATIONS, M=inverse
            )
            solution = found.reshape(shape)
            if not failed and float(np.sum(solution * right)) > 0:
                return solution, damping
        raise NotAMinimum(
            f"a head of {shape[0]} classes and {shape[1] - 1} features: its loss curves down where "
            "the fit ended, so that the influence of single images cannot be told"
        )

    def _product(self, direction: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The Hessian at these logits (N, C) times a direction (C, D + 1)."""
        change = self.logits(direction)
        size = np.abs(change).max(axis=1, keepdims=True)
        step = _STEP * change / np.where(size > 0, size, 1)
        ahead = self.losses(logits + step, slice(None))[1]
        behind = self.losses(logits - step, slice(None))[1]
        return self._gathered((ahead - behind) * (size / (2 * _STEP))) + self.rate * direction

    @cached_property
    def rough_inverse(self) -> LinearOperator:
        """The inverse of a like matrix: every class has the curvature of the mean class."""
        logits = self.logits(self.at)
        rows = slice(None, None, -(-len(logits) // _SAMPLE_ROWS))
        n_classes, width = self.at.shape
        scores = np.exp(logits[rows] - logits[rows].max(axis=1, keepdims=True))
        p = scores / scores.sum(axis=1, keepdims=True)
        curved = self.share[rows] * (p * (1 - p)).mean(axis=1)
        curved *= self.share.sum() / max(self.share[rows].sum(), 1e-12)
        features = self.features[rows]
        matrix = ((curved[:, None].astype(features.dtype) * features).T @ features).astype(float)
        matrix[np.diag_indices(width)] += np.maximum(self.rate, 1e-6)
        factor = cho_factor(matrix)

        def apply(flat: np.ndarray) -> np.ndarray:
            return cho_solve(factor, flat.reshape(n_classes, width).T).T.ravel()

        return _operator(n_classes * width, apply)


def _operator(size: int, product: Callable[[np.ndarray], np.ndarray]) -> LinearOperator:
    """A square matrix of which only its product with a vector is known."""
    made: Any = LinearOperator  # scipy's annotations know another signature
    return made((size, size), matvec=product, dtype=np.dtype(float))


def parameters_of(fit: HeadFit) -> np.ndarray:
    """Return a head's parameters as they were fitted, on standardised features: (C, D + 1)."""
    weight = fit.head.weight.astype(float)
    bias = fit.head.bias + weight @ fit.standardizer.mean
    return np.column_stack([weight * fit.standardizer.std, bias])


def extended(fit: HeadFit, features: np.ndarray) -> np.ndarray:
    """Standardise raw features (D,) and append the 1 of the bias: (D + 1,) float64."""
    return np.r_[(features.astype(float) - fit.standardizer.mean) / fit.standardizer.std, 1.0]
