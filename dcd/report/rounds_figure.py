"""The curve of a run's rounds, as inline SVG of the report."""

from collections.abc import Sequence

import matplotlib as mpl

from dcd.evaluation.round_figures import RoundFigures
from dcd.report.curve_figure import name_ends
from dcd.report.svg import ACCENT, INK, SOFT, Size, drawing, plain, svg

ROUNDS_SIZE = Size(620, 300, 12)
_LINES = {"debug_val": (ACCENT, (3, 2)), "debug_heldout": (ACCENT, None), "test": (INK, None)}


def rounds_curve(figures: Sequence[RoundFigures], chosen: int) -> str:
    """Draw accuracy by round, with the images taken so far below each; `none` is round 0.

    chosen: the round whose model is taken, marked. The same rows, the same bytes.
    """
    with drawing(ROUNDS_SIZE, "dcd-rounds") as figure:
        axes = figure.add_axes((0.08, 0.2, 0.72, 0.71))
        axes.axvline(chosen, color=SOFT, lw=0.75, dashes=(4, 3), zorder=1)
        numbers = [of.number for of in figures]
        ends = []
        for split, (color, dashes) in _LINES.items():
            ys = [100 * getattr(of, split) for of in figures]
            axes.plot(numbers, ys, color=color, lw=1.4, marker="o", ms=4, zorder=3,
                      dashes=dashes or (None, None))  # fmt: skip
            ends.append((ys[-1], split))
        axes.set_xticks(numbers, [f"{of.number}\n{of.n_taken:,.0f}" for of in figures])
        axes.set_xlabel("round, and images picked for failures so far", color=SOFT, loc="right")
        axes.set_title("accuracy, %", color=SOFT, loc="left", fontsize=mpl.rcParams["font.size"])
        name_ends(axes, ends, numbers[-1], {split: color for split, (color, _) in _LINES.items()})
        plain(axes)
        return svg(figure, _described(figures, chosen))


def _described(figures: Sequence[RoundFigures], chosen: int) -> str:
    shown = "; ".join(
        f"round {of.number}: debug_val {100 * of.debug_val:.1f} %, debug_heldout "
        f"{100 * of.debug_heldout:.1f} %, test {100 * of.test:.1f} %, {of.n_taken:,.0f} images"
        for of in figures
    )
    return f"{shown}; chosen: round {chosen}"
