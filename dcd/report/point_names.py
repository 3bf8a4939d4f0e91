"""Names beside the points of a figure, where they cover least.

adjustText and textalloc were tried in its place: docs/architecture.md says how.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dcd.report.svg import SOFT

_DISTANCES_PX = (9, 16, 28, 44, 64)
_LEADER_FROM_PX = 20  # farther names get a line to their point

# What it costs to cover a square pixel of each, and to be a pixel away from the point.
_OF_LINE, _OF_POINT, _OF_NAME, _OUTSIDE, _AWAY = 1.0, 4.0, 8.0, 20.0, 2.0
_LINE_PX, _POINT_PX = 2, 6  # half the width that an interval and a point are taken to have


@dataclass(frozen=True)
class Point:
    """A point in data coordinates with its intervals, and how its name is written."""

    name: str
    x: tuple[float, float, float]  # low, value, high
    y: tuple[float, float, float]
    color: str
    bold: bool = False


@dataclass(frozen=True)
class _Obstacle:
    """What stands at a place of the figure, and what a name pays for each pixel over it."""

    box: Bbox
    cost: float


@dataclass(frozen=True)
class _Place:
    """Where a name may stand: its box in pixels, and how far that is from its point."""

    box: Bbox
    distance_px: float


def name_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Write the name of every point beside it, those of the first points where they are best."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes.autoscale_view()  # the limits are lazy; transData would still be that of empty axes
    to_pixels = axes.transData.transform
    taken = [covered for point in points for covered in _drawn(point, axes)]
    inside = axes.get_window_extent()
    for point in points:
        at = (point.x[1], point.y[1])
        text = axes.annotate(
            point.name,
            at,
            (0, 0),
            textcoords="offset points",
            va="bottom",
            color=point.color,
            fontweight="bold" if point.bold else "normal",
            zorder=6,
        )
        extent = text.get_window_extent(renderer)
        px, py = to_pixels(at)
        places = _places(px, py, extent.width, extent.height)
        costs = [_cost(place, taken, inside) for place in places]
        place = places[costs.index(min(costs))]
        scale = 72 / figure.dpi
        text.set_position(((place.box.x0 - px) * scale, (place.box.y0 - py) * scale))
        taken.append(_Obstacle(place.box, _OF_NAME))
        if place.distance_px > _LEADER_FROM_PX:
            _draw_leader(axes, (px, py), place.box)


def _drawn(point: Point, axes: Axes) -> list[_Obstacle]:
    """The two intervals and the marker of a point."""
    (left, low), (px, py), (right, high) = axes.transData.transform(
        list(zip(point.x, point.y, strict=True))
    )
    return [
        _Obstacle(Bbox.from_extents(left, py - _LINE_PX, right, py + _LINE_PX), _OF_LINE),
        _Obstacle(Bbox.from_extents(px - _LINE_PX, low, px + _LINE_PX, high), _OF_LINE),
        _Obstacle(
            Bbox.from_bounds(px - _POINT_PX, py - _POINT_PX, *[2 * _POINT_PX] * 2), _OF_POINT
        ),
    ]


def _draw_leader(axes: Axes, at: tuple[float, float], box: Bbox) -> None:
    """A line from a point to the nearest edge of its name, both in pixels."""
    (px, py) = at
    near = (min(max(px, box.x0), box.x1), min(max(py, box.y0), box.y1))
    ends = axes.transData.inverted().transform([(px, py), near])
    axes.plot(ends[:, 0], ends[:, 1], color=SOFT, lw=0.6, zorder=2)


def _places(px: float, py: float, width: float, height: float) -> list[_Place]:
    """Boxes of a size around a point, to eight sides."""
    found = []
    for distance, across, up in itertools.product(_DISTANCES_PX, (-1, 0, 1), (-1, 0, 1)):
        if across == up == 0:
            continue
        x0 = px + across * distance - width * (1 - across) / 2
        y0 = py + up * distance - height * (1 - up) / 2
        found.append(_Place(Bbox.from_bounds(x0, y0, width, height), float(distance)))
    return found


def _cost(place: _Place, taken: Sequence[_Obstacle], inside: Bbox) -> float:
    covered = sum(other.cost * _overlap(place.box, other.box) for other in taken)
    outside = place.box.width * place.box.height - _overlap(place.box, inside)
    return covered + _OUTSIDE * outside + _AWAY * place.distance_px


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)
