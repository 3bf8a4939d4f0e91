"""The figure of the report: what every method gains and what it costs, in one plane."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dcd.evaluation.summary import MethodSummary, Role
from dcd.report.point_names import Point, name_points
from dcd.report.svg import ACCENT, INK, PAPER, SOFT, Size, document, drawing, plain, svg

_MARKERS: dict[Role, str] = {"none": "D", "baseline": "o", "variant": "s", "selected": "o"}
_COLORS: dict[Role, str] = {
    "none": INK,
    "baseline": SOFT,
    "variant": ACCENT,
    "selected": ACCENT,
}
WIDE = Size(820, 470, 13)
NARROW = Size(350, 400, 11.5)


def trade_off(rows: Sequence[MethodSummary], size: Size) -> str:
    """Draw debug_heldout against test accuracy of every method, with 95 % intervals both ways.

    Guides run through `none`. Returns an SVG element; the same rows give the same bytes.
    """
    with drawing(size, f"dcd-{size.width_px}") as figure:
        axes = figure.add_axes(_frame(size))
        _draw_axes(axes, rows)
        for row in rows:
            _draw_method(axes, row)
        name_points(figure, axes, [_point(row) for row in sorted(rows, key=_selected_first)])
        return svg(figure, _description(rows))


def picture(rows: Sequence[MethodSummary], size: Size = WIDE) -> str:
    """Draw `trade_off` as an SVG document of its own, black on white."""
    return document(trade_off(rows, size))


def _frame(size: Size) -> tuple[float, float, float, float]:
    left, bottom, right, top = 46, 42, 12, 26
    return (
        left / size.width_px,
        bottom / size.height_px,
        1 - (left + right) / size.width_px,
        1 - (bottom + top) / size.height_px,
    )


def _draw_axes(axes: Axes, rows: Sequence[MethodSummary]) -> None:
    none = next(row for row in rows if row.role == "none")
    axes.margins(0.08)
    axes.axvline(100 * none.test.accuracy.value, color=INK, lw=0.75, dashes=(4, 3), zorder=1)
    axes.axhline(
        100 * none.debug_heldout.accuracy.value, color=INK, lw=0.75, dashes=(4, 3), zorder=1
    )
    axes.set_xlabel("test accuracy, %", color=SOFT, loc="right")
    axes.set_title(
        "debug_heldout accuracy, %",
        color=SOFT,
        loc="left",
        x=-38 / (axes.bbox.width or 1),
        fontsize=mpl.rcParams["font.size"],
        pad=9,
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=3))
    plain(axes)


def _draw_method(axes: Axes, row: MethodSummary) -> None:
    color = _COLORS[row.role]
    x, y = row.test.accuracy, row.debug_heldout.accuracy
    width = 1.8 if row.role == "selected" else 1.0
    for line in (
        ([100 * x.low, 100 * x.high], [100 * y.value] * 2),
        ([100 * x.value] * 2, [100 * y.low, 100 * y.high]),
    ):
        axes.plot(*line, color=color, lw=width, solid_capstyle="butt", zorder=3)
    filled = row.role in ("none", "selected")
    axes.plot(
        100 * x.value,
        100 * y.value,
        linestyle="none",
        marker=_MARKERS[row.role],
        markersize=8 if row.role == "selected" else 5.5,
        markerfacecolor=color if filled else PAPER,
        markeredgecolor=PAPER if filled else color,
        markeredgewidth=1.2,
        zorder=5 if filled else 4,
    )


def _selected_first(row: MethodSummary) -> bool:
    return row.role != "selected"


def _point(row: MethodSummary) -> Point:
    x, y = row.test.accuracy, row.debug_heldout.accuracy
    return Point(
        row.method,
        (100 * x.low, 100 * x.value, 100 * x.high),
        (100 * y.low, 100 * y.value, 100 * y.high),
        INK if row.role == "baseline" else _COLORS[row.role],
        row.role == "selected",
    )


def _description(rows: Sequence[MethodSummary]) -> str:
    return "; ".join(
        f"{row.method}: test {100 * row.test.accuracy.value:.1f} %, "
        f"debug_heldout {100 * row.debug_heldout.accuracy.value:.1f} %"
        for row in rows
    )
