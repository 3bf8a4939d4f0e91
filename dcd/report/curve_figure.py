"""The lines between models that `selected` was chosen from, as inline SVG of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.axes import Axes

from dcd.report.svg import ACCENT, INK, SOFT, Size, drawing, plain, svg
from dcd.tables.schemas import BETWEEN

CURVE_SIZE = Size(620, 300, 12)
_LINES = {
    "debug_heldout": ACCENT,
    "debug_val": ACCENT,
    "error_sample": ACCENT,
    "test": INK,
    "val": INK,
}


def mean_curve(curve: pa.Table) -> dict[str, list[tuple[float, float]]]:
    """(alpha, mean accuracy over seeds) by split. curve: schemas.CURVE of all seeds."""
    means = (
        curve.group_by(["split", "alpha"], use_threads=False)
        .aggregate([("accuracy", "mean")])
        .sort_by([("split", "ascending"), ("alpha", "ascending")])
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for row in means.to_pylist():
        found.setdefault(row["split"], []).append((row["alpha"], row["accuracy_mean"]))
    return found


def chosen_alphas(curve: pa.Table) -> list[float]:
    """The chosen alpha of every seed, in ascending order."""
    chosen = curve.filter(curve["chosen"]).select(["seed", "alpha"])
    return sorted(chosen.group_by(["seed", "alpha"]).aggregate([])["alpha"].to_pylist())


@dataclass(frozen=True)
class LineFigure:
    """A line between two models, and what was chosen on it. drawing: SVG, safe in a page."""

    first: str
    second: str
    seeds: list[int]
    alphas: list[float]
    drawing: Markup


def lines(curve: pa.Table) -> list[LineFigure]:
    """A figure for every line that a seed's model was chosen from. curve: of all seeds."""
    found = []
    for name in sorted(set(curve["line"].to_pylist())):
        of_line = curve.filter(pc.equal(curve["line"], name))
        first, _, second = name.partition(BETWEEN)
        seeds = sorted(set(of_line["seed"].to_pylist()))
        drawn = Markup(interpolation(of_line, (first, second)))
        found.append(LineFigure(first, second, seeds, chosen_alphas(of_line), drawn))
    return found


def interpolation(
    curve: pa.Table, ends: tuple[str, str] = ("original", "fine-tuned"), size: Size = CURVE_SIZE
) -> str:
    """Accuracy on every split against alpha, chosen ones marked. The same rows, the same bytes."""
    means = mean_curve(curve)
    # A recipe asks the error sample by cross-validation; where nobody did, debug_val decided.
    decides = ("val", "error_sample" if "error_sample" in means else "debug_val")
    with drawing(size, "dcd-curve") as figure:
        axes = figure.add_axes((0.08, 0.15, 0.72, 0.76))
        for alpha in sorted(set(chosen_alphas(curve))):
            axes.axvline(alpha, color=SOFT, lw=0.75, dashes=(4, 3), zorder=1)
        last: list[tuple[float, str]] = []
        for split, points in means.items():
            xs, ys = zip(*points, strict=True)
            axes.plot(
                xs,
                [100 * y for y in ys],
                color=_LINES[split],
                lw=1.4,
                dashes=(3, 2) if split in decides else (None, None),
                zorder=3,
            )
            last.append((100 * ys[-1], split))
        name_ends(axes, last, 1, _LINES)
        axes.set_xlabel(f"alpha: 0 {ends[0]}, 1 {ends[1]}", color=SOFT, loc="right")
        axes.set_title("accuracy, %", color=SOFT, loc="left", fontsize=mpl.rcParams["font.size"])
        plain(axes)
        described = "; ".join(
            f"{split}: {100 * found[0][1]:.1f} % at alpha 0, {100 * found[-1][1]:.1f} % at alpha 1"
            for split, found in means.items()
        )
        return svg(figure, described)


def name_ends(
    axes: Axes, ends: Sequence[tuple[float, str]], x: float, colors: Mapping[str, str]
) -> None:
    """Name every line at its right end, at x; names keep a twelfth of the height apart.

    ends: the height of each line there, and its name. A name may come to stand above the axes.
    """
    low, high = axes.get_ylim()
    apart = (high - low) / 12
    at = -float("inf")
    for y, name in sorted(ends):
        at = max(y, at + apart)
        axes.annotate(
            name,
            (x, at),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=colors[name],
            annotation_clip=False,
        )
