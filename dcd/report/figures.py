"""Figures of the report as inline SVG that follows the page: its fonts, its colours, dark mode.

matplotlib draws with marker colours that stand for the page's CSS variables, and its `style`
attributes become presentation attributes, so the page can forbid inline styles.
"""

import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from dcd.evaluation.summary import MethodSummary, Role

INK, SOFT, LINE, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--paper)",
}
_MARKERS: dict[Role, str] = {"none": "D", "baseline": "o", "variant": "s", "selected": "o"}
_COLORS: dict[Role, str] = {
    "none": INK,
    "baseline": SOFT,
    "variant": ACCENT,
    "selected": ACCENT,
}


@dataclass(frozen=True)
class Size:
    """Size of a figure in CSS pixels at scale 1; text is drawn at `text_px`."""

    width_px: int
    height_px: int
    text_px: float


WIDE = Size(820, 470, 13)
NARROW = Size(350, 400, 11.5)


def trade_off(rows: Sequence[MethodSummary], size: Size) -> str:
    """debug_heldout against test accuracy of every method, with 95 % intervals both ways.

    Guides run through `none`. Returns an SVG element; the same rows give the same bytes.
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"dcd-{size.width_px}",
        "font.size": size.text_px * 0.75,
        "text.parse_math": False,
        "axes.unicode_minus": True,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(size.width_px / 96, size.height_px / 96), dpi=96)
        axes = figure.add_axes(_frame(size))
        _draw_axes(axes, rows)
        for row in rows:
            _draw_method(axes, row)
        _label_points(figure, axes, rows)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata=NO_METADATA)
    return inline(drawn.getvalue(), _description(rows))


def picture(rows: Sequence[MethodSummary], size: Size = WIDE) -> str:
    """`trade_off` as an SVG document of its own, black on white, for pages with other styles."""
    svg = trade_off(rows, size)
    for variable, color in _ON_WHITE.items():
        svg = svg.replace(f"var(--{variable})", color)
    head, body = svg.split(">", 1)
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} {spaces} font-family="sans-serif">{ground}{body}'


_ON_WHITE = {
    "ink": "#1a1a1a",
    "soft": "#5c5c5c",
    "line": "#c9c9c9",
    "accent": "#b3261e",
    "paper": "#ffffff",
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


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
    axes.tick_params(colors=SOFT, length=0, pad=6)
    axes.grid(color=LINE, lw=0.75, zorder=0)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


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


def _label_points(figure: Figure, axes: Axes, rows: Sequence[MethodSummary]) -> None:
    """Name every point beside it, where the name covers least; far names get a leader line."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes.autoscale_view()  # the limits are lazy; transData would still be that of empty axes
    to_pixels = axes.transData.transform
    taken: list[tuple[Bbox, float]] = []
    for row in rows:
        x, y = row.test.accuracy, row.debug_heldout.accuracy
        (left, low), (right, high) = to_pixels(
            [(100 * x.low, 100 * y.low), (100 * x.high, 100 * y.high)]
        )
        px, py = to_pixels((100 * x.value, 100 * y.value))
        taken.append((Bbox.from_extents(left, py - 2, right, py + 2), 1.0))
        taken.append((Bbox.from_extents(px - 2, low, px + 2, high), 1.0))
        taken.append((Bbox.from_extents(px - 6, py - 6, px + 6, py + 6), 4.0))
    inside = axes.get_window_extent()
    for row in sorted(rows, key=lambda r: r.role != "selected"):
        at = (100 * row.test.accuracy.value, 100 * row.debug_heldout.accuracy.value)
        text = axes.annotate(
            row.method,
            at,
            (0, 0),
            textcoords="offset points",
            va="bottom",
            color=_COLORS[row.role] if row.role != "baseline" else INK,
            fontweight="bold" if row.role == "selected" else "normal",
            zorder=6,
        )
        extent = text.get_window_extent(renderer)
        px, py = to_pixels(at)
        box, distance = min(
            _places(px, py, extent.width, extent.height),
            key=lambda place: _cost(place[0], place[1], taken, inside),
        )
        scale = 72 / figure.dpi
        text.set_position(((box.x0 - px) * scale, (box.y0 - py) * scale))
        taken.append((box, 8.0))
        if distance > 20:
            near = (min(max(px, box.x0), box.x1), min(max(py, box.y0), box.y1))
            points = axes.transData.inverted().transform([(px, py), near])
            axes.plot(points[:, 0], points[:, 1], color=SOFT, lw=0.6, zorder=2)


def _places(px: float, py: float, width: float, height: float) -> list[tuple[Bbox, float]]:
    """Boxes around a point, each with its distance from it."""
    found = []
    for distance, across, up in itertools.product((9, 16, 28, 44, 64), (-1, 0, 1), (-1, 0, 1)):
        if across == up == 0:
            continue
        x0 = px + across * distance - (width if across < 0 else width / 2 if across == 0 else 0)
        y0 = py + up * distance - (height if up < 0 else height / 2 if up == 0 else 0)
        found.append((Bbox.from_bounds(x0, y0, width, height), float(distance)))
    return found


def _cost(box: Bbox, distance: float, taken: list[tuple[Bbox, float]], inside: Bbox) -> float:
    covered = sum(weight * _overlap(box, other) for other, weight in taken)
    outside = box.width * box.height - _overlap(box, inside)
    return covered + 20 * outside + 2 * distance


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def _description(rows: Sequence[MethodSummary]) -> str:
    return "; ".join(
        f"{row.method}: test {100 * row.test.accuracy.value:.1f} %, "
        f"debug_heldout {100 * row.debug_heldout.accuracy.value:.1f} %"
        for row in rows
    )


def inline(svg: str, description: str) -> str:
    """A matplotlib SVG document as an element of the page, without styles of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' style="([^"]*)"', _presentation_attributes, svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    head = f'<svg role="img" aria-label="{html.escape(description)}" '
    view = re.search(r'viewBox="[^"]*"', svg)
    body = re.sub(r">\s+<", "><", svg[svg.index(">") + 1 :])
    return f'{head}{view[0] if view else ""} stroke-linejoin="round">{body}'


def _presentation_attributes(style: re.Match[str]) -> str:
    attributes = []
    for declaration in filter(None, (part.strip() for part in style[1].split(";"))):
        name, _, value = declaration.partition(":")
        value = value.strip()
        if name == "font":
            size = re.search(r"[\d.]+px", value)
            attributes.append(f'font-size="{size[0] if size else "12px"}"')
            if value.startswith(("bold", "700")):
                attributes.append('font-weight="600"')
        elif name != "font-family":
            attributes.append(f'{name}="{value}"')
    return "".join(f" {attribute}" for attribute in attributes)
