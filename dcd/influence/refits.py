"""Leave images out and fit again: what `effects` foretells, measured. Pure, and dear."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from dcd.cells.fits import HeadFit
from dcd.influence.curvature import Curvature, extended
from dcd.influence.effects import RemovalEffects
from dcd.progress import live

_MAX_STEPS = 20
_SETTLED = 1e-8  # of the gradient: far below what one image among thousands changes
_STEP_TOLERANCE = 1e-2  # of Newton's steps: the next one mends what is left
_SHORTEST = 1e-3  # of a step's length, before it is given up


@dataclass(frozen=True)
class Check:
    """Foretold and measured changes of the margin, (n,) each, of images at `rows`."""

    rows: np.ndarray
    foretold: np.ndarray
    measured: np.ndarray

    @property
    def rank_correlation(self) -> float:
        """Spearman's."""
        return float(spearmanr(self.foretold, self.measured).statistic)


def spread_rows(effects: RemovalEffects, used: np.ndarray, n: int) -> np.ndarray:
    """Choose n images for a check: both ends of the order by foretold effect, and evenly between.

    used: places of the images that some fit uses.
    """
    order = used[np.argsort(effects.margin[used], kind="stable")]
    return order[np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int))]


def check(
    fits: Sequence[HeadFit], effects: RemovalEffects, features: np.ndarray, rows: np.ndarray
) -> Check:
    """Leave out each of some images in turn, fit all heads to convergence, and ask again."""
    (checked,) = check_all(fits, [effects], [features], rows)
    return checked


def check_all(
    fits: Sequence[HeadFit],
    effects: Sequence[RemovalEffects],
    features: Sequence[np.ndarray],
    rows: np.ndarray,
) -> list[Check]:
    """Check several answers on the same images: what is fitted without one of them answers all."""
    measured = np.zeros((len(effects), len(rows)))
    slopes = [of.answer.slopes["margin"] for of in effects]
    with live.stage("leave out and fit", len(fits) * len(rows), "fits") as stage:
        for fit in fits:
            around = Curvature.of(fit, np.float64)
            settled = _settle(around)
            asked = [extended(fit, one) for one in features]
            for i, row in stage.each(enumerate(rows.tolist())):
                place = np.flatnonzero(fit.rows == row)
                if len(place):
                    moved = refit_without(settled, place) - settled.at
                    for n, (slope, one) in enumerate(zip(slopes, asked, strict=True)):
                        measured[n, i] += fit.share * float(slope @ (moved @ one))
    every = zip(effects, measured, strict=True)
    return [Check(rows, of.margin[rows], changes) for of, changes in every]


def refit_without(settled: Curvature, places: np.ndarray) -> np.ndarray:
    """Fit again without the images at these places of the fit; returns parameters (C, D + 1)."""
    share = settled.share.copy()
    share[places] = 0
    return _settle(replace(settled, share=share / share.sum()), settled).at


def _settle(around: Curvature, near: Curvature | None = None) -> Curvature:
    """Go on by Newton's method, never upwards, to where the gradient vanishes."""
    near = near or around
    for _ in range(_MAX_STEPS):
        gradient = around.gradient(around.at)
        if np.abs(gradient).max() < _SETTLED:
            break
        step, _ = around.solve(gradient, _STEP_TOLERANCE, near)
        before, size = around.loss(around.at), 1.0
        while size > _SHORTEST and around.loss(around.at - size * step) > before:
            size /= 2
        if size <= _SHORTEST:
            break
        around = replace(around, at=around.at - size * step)
    return around
