"""Descend to the minimum of a linear classifier's loss: L-BFGS that knows the features' curvature.

L-BFGS (Liu, Nocedal: "On the limited memory BFGS method for large scale optimization", Mathematical
Programming 1989) begins with a guess of the inverse Hessian. Here that is the exact one of a like
loss, in which every class has the curvature of the mean class: features that vary together are then
taken apart at once, and a third of the passes over them suffice.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dcd.threads import cores, one_blas_thread
from dcd.training.losses import ImageLosses

SETTLED = 1e-4  # of a gradient's parts: the predictions move no more

_BLOCK_BYTES = 5 * 2**20  # of features: what a core's cache holds
_CURVED_ROWS = 4096  # of which the curvature is learnt
_LEAST_CURVATURE = 1e-6  # of what no penalty holds and no image moves, such as a bias
_MEMORY = 10  # steps that are remembered
_TRIES = 12  # of a step's length
_SUFFICIENT, _CURVED = 1e-4, 0.9  # Wolfe's conditions, as Nocedal and Wright have them

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Ending:
    """When a descent ends.

    gradient: none of its parts is larger. gain: a step gains less than this share of the loss.
    steps: there have been so many.
    """

    gradient: float
    gain: float
    steps: int


@dataclass(frozen=True)
class MeanLoss:
    """Weighted mean loss + l2/2 · ‖W‖² of a linear classifier.

    features: (N, D), standardised. weight: (N,). The products with the features are in their dtype.
    """

    features: np.ndarray
    losses_of: ImageLosses
    weight: np.ndarray
    l2: float

    def at(self, point: np.ndarray, threads: Executor) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, (C, D + 1) float64 as `point`: weights, then the bias.

        Block by block, so that the features come from memory once and not twice, and side by side,
        for BLAS's own threads only wait for each other on matrices this narrow. The blocks, and so
        the sums, do not depend on the number of threads.
        """
        dtype = self.features.dtype
        across, bias = np.ascontiguousarray(point[:, :-1].T, dtype), point[:, -1].astype(dtype)
        share = self.weight / self.weight.sum()

        def of_block(rows: slice) -> tuple[float, np.ndarray, np.ndarray]:
            block = self.features[rows]
            losses, slopes = self.losses_of(block @ across + bias, rows)
            slopes *= share[rows, None].astype(dtype)
            loss = float(share[rows] @ losses.astype(float))
            return loss, slopes.T @ block, slopes.sum(axis=0, dtype=float)

        value = self.l2 / 2 * float(np.sum(point[:, :-1] ** 2))
        gradient = self.l2 * point
        gradient[:, -1] = 0
        for loss, by_weight, by_bias in threads.map(of_block, self._blocks()):
            value += loss
            gradient[:, :-1] += by_weight
            gradient[:, -1] += by_bias
        return value, gradient

    def inverse_curvature(self, point: np.ndarray) -> np.ndarray:
        """Return a rough inverse of the Hessian at a point, alike for all classes: (D + 1, D + 1).

        Of a sample of the images, an image being as curved as the softmax of its logits is in the
        mean of the classes.
        """
        rows = slice(None, None, -(-len(self.features) // _CURVED_ROWS))
        features = self.features[rows]
        logits = features @ point[:, :-1].T.astype(features.dtype) + point[:, -1]
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = scores / scores.sum(axis=1, keepdims=True)
        curved = self.weight[rows] / self.weight[rows].sum() * (p * (1 - p)).mean(axis=1)
        extended = np.ones((len(features), features.shape[1] + 1), features.dtype)
        extended[:, :-1] = features
        extended *= np.sqrt(curved)[:, None].astype(features.dtype)
        matrix = (extended.T @ extended).astype(float)
        penalty = np.full(len(matrix), self.l2)
        penalty[-1] = 0
        matrix[np.diag_indices_from(matrix)] += np.maximum(penalty, _LEAST_CURVATURE)
        return np.linalg.inv(matrix).astype(features.dtype)

    def _blocks(self) -> list[slice]:
        n, dim = self.features.shape
        step = max(1, _BLOCK_BYTES // (dim * self.features.itemsize))
        return [slice(i, i + step) for i in range(0, n, step)]


@one_blas_thread()
def descend(loss: MeanLoss, start: np.ndarray, ending: Ending) -> np.ndarray:
    """Go from `start` to the local minimum that L-BFGS reaches, (C, D + 1); deterministic."""
    with ThreadPoolExecutor(cores()) as threads:
        inverse = loss.inverse_curvature(start)
        return minimise(lambda point: loss.at(point, threads), start, inverse, ending)


def minimise(
    objective: Objective, start: np.ndarray, inverse: np.ndarray, ending: Ending
) -> np.ndarray:
    """Minimise a smooth function of a matrix (C, P), given a rough inverse Hessian of its rows.

    objective: gives the value and the gradient (C, P). inverse: (P, P), positive definite.
    """
    point = start.astype(float)
    value, gradient = objective(point)
    memory = _Memory(inverse)
    for _ in range(ending.steps):
        if np.abs(gradient).max() <= ending.gradient:
            break
        found = _step(objective, point, value, gradient, -memory.times(gradient))
        if found is None:
            break  # rounding hides what is left to gain
        next_point, next_value, next_gradient = found
        memory.learn(next_point - point, next_gradient - gradient)
        gain = (value - next_value) / max(abs(value), abs(next_value), 1.0)
        point, value, gradient = next_point, next_value, next_gradient
        if gain <= ending.gain:
            break
    return point


class _Memory:
    """What the last steps taught of the inverse Hessian, upon a rough one."""

    def __init__(self, inverse: np.ndarray):
        self._inverse = inverse
        self._steps: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=_MEMORY)
        self._scale = 1.0

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Remember a step and by how much it changed the gradient, unless the loss curved down."""
        curved = float(np.vdot(step, change))
        if curved <= 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
            return
        self._steps.append((step, change, curved))
        self._scale = curved / float(np.vdot(change, self._rough(change)))

    def times(self, gradient: np.ndarray) -> np.ndarray:
        """The inverse Hessian times a gradient: Nocedal's two loops."""
        found, shares = gradient.copy(), []
        for step, change, curved in reversed(self._steps):
            share = float(np.vdot(step, found)) / curved
            shares.append(share)
            found -= share * change
        found = self._scale * self._rough(found)
        for (step, change, curved), share in zip(self._steps, reversed(shares), strict=True):
            found += (share - float(np.vdot(change, found)) / curved) * step
        return found

    def _rough(self, gradient: np.ndarray) -> np.ndarray:
        return (gradient.astype(self._inverse.dtype) @ self._inverse).astype(float)


def _step(
    objective: Objective,
    point: np.ndarray,
    value: float,
    gradient: np.ndarray,
    direction: np.ndarray,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Walk along a direction as far as Wolfe's conditions want it: the point, its value, gradient.

    By bisection. Where no length suffices, the last one that gained anything; None without one.
    """
    slope = float(np.vdot(gradient, direction))
    low, high, length = 0.0, np.inf, 1.0
    best = None
    for _ in range(_TRIES):
        ahead = point + length * direction
        found, there = objective(ahead)
        if found > value + _SUFFICIENT * length * slope:
            high = length
        else:
            best = ahead, found, there
            if float(np.vdot(there, direction)) >= _CURVED * slope:
                break
            low = length
        length = (low + high) / 2 if np.isfinite(high) else 2 * length
    return best
