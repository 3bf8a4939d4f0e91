"""Descend to the minimum of a linear classifier's loss: L-BFGS that knows the features' curvature.

L-BFGS (Liu, Nocedal: "On the limited memory BFGS method for large scale optimization", Mathematical
Programming 1989) begins with a guess of the inverse Hessian. Here that is the exact one of a like
loss, in which every class has the curvature of the mean class: features that vary together are then
taken apart at once, and a third of the passes over them suffice.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dcd.threads import cores, one_blas_thread
from dcd.training.losses import ImageLosses

SETTLED = 1e-4  # of a gradient's parts: the predictions move no more

_BLOCK_BYTES = 5 * 2**20  # of features: what a core's cache holds
_CURVED_ROWS = 4096  # of which the curvature is learnt, beside those of a high weight
_HEAVY = 8  # times the mean weight: few images that decide much of the curvature
_LEAST_CURVATURE = 1e-6  # of what no penalty holds and no image moves, such as a bias
_MEMORY = 10  # steps that are remembered
_TRIES = 12  # of a step's length
_SUFFICIENT, _CURVED = 1e-4, 0.9  # Wolfe's conditions, as Nocedal and Wright have them

T = TypeVar("T")
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
        return at_each([self], [point], threads)[0]

    def inverse_curvature(self, point: np.ndarray) -> np.ndarray:
        """Return a rough inverse of the Hessian at a point, alike for all classes: (D + 1, D + 1).

        Of a sample of the images, all of a high weight among them, an image being as curved as the
        softmax of its logits is in the mean of the classes.
        """
        rows, share = self._curving()
        features = self.features[rows]
        logits = features @ point[:, :-1].T.astype(features.dtype) + point[:, -1]
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = scores / scores.sum(axis=1, keepdims=True)
        curved = share * (p * (1 - p)).mean(axis=1)
        extended = np.ones((len(features), features.shape[1] + 1), features.dtype)
        extended[:, :-1] = features
        extended *= np.sqrt(curved)[:, None].astype(features.dtype)
        matrix = (extended.T @ extended).astype(float)
        penalty = np.full(len(matrix), self.l2)
        penalty[-1] = 0
        matrix[np.diag_indices_from(matrix)] += np.maximum(penalty, _LEAST_CURVATURE)
        return np.linalg.inv(matrix).astype(features.dtype)

    def _curving(self) -> tuple[np.ndarray, np.ndarray]:
        """Which images the curvature is learnt of, and their shares of the loss."""
        weight = np.asarray(self.weight, float)
        heavy = weight > _HEAVY * weight.mean()
        light = np.flatnonzero(~heavy)
        sample = light[:: -(-len(light) // _CURVED_ROWS)]
        of_sample = weight[sample] * (weight[light].sum() / (weight[sample].sum() or 1.0))
        share = np.concatenate([weight[heavy], of_sample])
        return np.concatenate([np.flatnonzero(heavy), sample]), share / share.sum()


def at_each(
    losses: Sequence[MeanLoss], points: Sequence[np.ndarray], threads: Executor
) -> list[tuple[float, np.ndarray]]:
    """Return what `MeanLoss.at` gives, of losses that differ in their weights alone.

    One pass over the features serves all: a product with the columns of several heads costs less
    than one for each.
    """
    first, (n_classes, width) = losses[0], points[0].shape
    dtype = first.features.dtype
    across = np.ascontiguousarray(np.concatenate([p[:, :-1] for p in points]).T, dtype)
    bias = np.concatenate([p[:, -1] for p in points]).astype(dtype)
    shares = [loss.weight / loss.weight.sum() for loss in losses]
    parts = [slice(i * n_classes, (i + 1) * n_classes) for i in range(len(losses))]

    def of_block(rows: slice) -> tuple[list[float], np.ndarray, np.ndarray]:
        block = first.features[rows]
        logits = block @ across + bias
        found = []
        for part, share in zip(parts, shares, strict=True):
            of_images, slopes = first.losses_of(np.ascontiguousarray(logits[:, part]), rows)
            np.multiply(slopes, share[rows, None].astype(dtype), out=logits[:, part])
            found.append(float(share[rows] @ of_images.astype(float)))
        return found, logits.T @ block, logits.sum(axis=0, dtype=float)

    values = np.zeros(len(losses))
    gradient = np.zeros((len(losses) * n_classes, width))
    blocks = _blocks(first.features, len(losses))
    of_all = threads.map(of_block, blocks) if len(blocks) > 1 else map(of_block, blocks)
    for of_each, by_weight, by_bias in of_all:
        values += of_each
        gradient[:, :-1] += by_weight
        gradient[:, -1] += by_bias
    each = []
    for i, (loss, point) in enumerate(zip(losses, points, strict=True)):
        penalty = loss.l2 * point
        penalty[:, -1] = 0
        value = loss.l2 / 2 * float(np.sum(point[:, :-1] ** 2)) + float(values[i])
        each.append((value, penalty + gradient[parts[i]]))
    return each


def _blocks(features: np.ndarray, n_heads: int) -> list[slice]:
    """Rows whose features and logits fit into a core's cache."""
    n, dim = features.shape
    step = max(1, _BLOCK_BYTES // (dim * features.itemsize) // n_heads)
    return [slice(i, i + step) for i in range(0, n, step)]


@one_blas_thread()
def descend(loss: MeanLoss, start: np.ndarray, ending: Ending) -> np.ndarray:
    """Go from `start` to the local minimum that L-BFGS reaches, (C, D + 1); deterministic."""
    with ThreadPoolExecutor(cores()) as threads:
        inverse = loss.inverse_curvature(start)
        return minimise(lambda point: loss.at(point, threads), start, inverse, ending)


@one_blas_thread()
def descend_together(
    losses: Sequence[MeanLoss], start: np.ndarray, ending: Ending
) -> list[np.ndarray]:
    """Descend each of some losses that differ in their weights alone, as `descend` does each.

    All know the curvature of the first. Deterministic; which others come along moves the last
    digits.
    """
    inverse = losses[0].inverse_curvature(start)
    descents = [_descending(start, inverse, ending) for _ in losses]
    asked = {i: next(descent) for i, descent in enumerate(descents)}
    found: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(cores()) as threads:
        while asked:
            here = list(asked)
            told = at_each([losses[i] for i in here], list(asked.values()), threads)
            for i, answer in zip(here, told, strict=True):
                try:
                    asked[i] = descents[i].send(answer)
                except StopIteration as end:
                    found[i] = end.value
                    del asked[i]
    return [found[i] for i in range(len(losses))]


def minimise(
    objective: Objective, start: np.ndarray, inverse: np.ndarray, ending: Ending
) -> np.ndarray:
    """Minimise a smooth function of a matrix (C, P), given a rough inverse Hessian of its rows.

    objective: gives the value and the gradient (C, P). inverse: (P, P), positive definite.
    """
    descent = _descending(start, inverse, ending)
    asked = next(descent)
    while True:
        try:
            asked = descent.send(objective(asked))
        except StopIteration as end:
            return end.value


# Yields points, is sent the value and the gradient there, and returns what it found.
Descent = Generator[np.ndarray, tuple[float, np.ndarray], T]


def _descending(start: np.ndarray, inverse: np.ndarray, ending: Ending) -> Descent[np.ndarray]:
    point = start.astype(float)
    value, gradient = yield point
    memory = _Memory(inverse)
    for _ in range(ending.steps):
        if np.abs(gradient).max() <= ending.gradient:
            break
        found = yield from _step(point, value, gradient, -memory.times(gradient))
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
    point: np.ndarray, value: float, gradient: np.ndarray, direction: np.ndarray
) -> Descent[tuple[np.ndarray, float, np.ndarray] | None]:
    """Walk along a direction as far as Wolfe's conditions want it: the point, its value, gradient.

    By bisection. Where no length suffices, the last one that gained anything; None without one.
    """
    slope = float(np.vdot(gradient, direction))
    low, high, length = 0.0, np.inf, 1.0
    best = None
    for _ in range(_TRIES):
        ahead = point + length * direction
        found, there = yield ahead
        if found > value + _SUFFICIENT * length * slope:
            high = length
        else:
            best = ahead, found, there
            if float(np.vdot(there, direction)) >= _CURVED * slope:
                break
            low = length
        length = (low + high) / 2 if np.isfinite(high) else 2 * length
    return best
