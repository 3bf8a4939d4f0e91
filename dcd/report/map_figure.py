"""The map of embeddings as inline SVG: one path a kind of point, so thousands cost few bytes.

A kind has a colour and a shape, which the style sheet and the legend share: either tells the kinds
apart alone. Colours are those of Okabe and Ito ("Color Universal Design", 2008).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup, escape

from dcd.report.record import DrawnMap

MAX_DRAWN = 6_000  # points of a panel: some 50 kB
MAX_LABELS = 7
_SIDE = 1000  # of the drawing, in its own units; places are whole numbers of them
_MARGIN = 14
_LEGEND_SIDE = 24

# By shape: what is drawn from the middle of a point, and whether it is filled or a line.
_SHAPES = {
    "dot": "h0",
    "square": "m-5-5h10v10h-10z",
    "triangle": "m-8 6h16l-8-15z",
    "cross": "m-8-8l16 16m0-16l-16 16",
    "diamond": "m-8 0l8-9 8 9-8 9z",
    "plus": "m-9 0h18m-9-9v18",
    "down": "m-8-6h16l-8 15z",
}
# Of each kind: what it is, its shape, its colour and its words. The page of the map draws by them
# too, roles in this order.
ROLES = (
    ("pool", "dot", "rest", "pool"),
    ("train", "square", "c1", "train"),
    ("pick", "triangle", "c2", "picked for a failure"),
    ("failure", "cross", "ink", "failure"),
)
POSTERIORS = (
    (0.75, "dot", "c1", "label right with 75 % and more"),
    (0.5, "dot", "c3", "50 to 75 %"),
    (0.25, "down", "c2", "25 to 50 %"),
    (0.0, "down", "c4", "below 25 %"),
)
OF_LABELS = (
    ("triangle", "c2"),
    ("square", "c1"),
    ("cross", "c4"),
    ("diamond", "c5"),
    ("down", "c3"),
    ("plus", "c6"),
    ("dot", "ink"),
)


@dataclass(frozen=True)
class Key:
    """One line of a legend. drawn: its mark as an SVG element. n: how many points there are."""

    drawn: Markup
    name: str
    n: int


@dataclass(frozen=True)
class Panel:
    """One picture of a map: the points by `title`."""

    title: str
    drawn: Markup
    legend: tuple[Key, ...]


@dataclass(frozen=True, eq=False)
class _Kind:
    shape: str
    colour: str
    name: str
    rows: np.ndarray  # (N,) bool


def panels(drawn: DrawnMap) -> tuple[Panel, ...]:
    """Draw a map by role, by posterior and by label."""
    points = drawn.points.take(pa.array(_thinned(drawn.points)))
    roles = np.array(points["role"].to_pylist())
    chances = points["posterior"].to_numpy(zero_copy_only=False).astype(float)
    chances = np.where(points["posterior"].is_null(), np.nan, chances)
    labels = np.array(points["label"].to_pylist())
    by_role = [_Kind(shape, colour, name, roles == role) for role, shape, colour, name in ROLES]
    true = [_Kind("square", "rest", "label taken for true", np.isnan(chances))]
    below = [1.1, *(least for least, *_ in POSTERIORS)]
    by_posterior = [
        _Kind(shape, colour, name, (chances >= least) & (chances < above))
        for (least, shape, colour, name), above in zip(POSTERIORS, below, strict=False)
    ]
    shown = most_failing(drawn.points)
    others = [_Kind("dot", "rest", "other labels", ~np.isin(labels, shown))]
    by_label = [
        _Kind(*mark, name, labels == name) for mark, name in zip(OF_LABELS, shown, strict=False)
    ]
    by_label = [kind for kind in (*others, *by_label) if kind.rows.any()]
    places = _places(points)
    return (
        _panel("by role", by_role, places),
        _panel("by how probably the label is right", [*true, *by_posterior], places),
        _panel("by label, those that fail most", by_label, places),
    )


def n_drawn(drawn: DrawnMap) -> int:
    """How many points a panel shows."""
    return min(drawn.points.num_rows, MAX_DRAWN)


def _thinned(points: pa.Table) -> np.ndarray:
    """The rows that are drawn: of failures and picks all, of the others evenly, if all fit."""
    wanted = np.isin(points["role"].to_pylist(), ("failure", "pick"))
    first, rest = np.flatnonzero(wanted), np.flatnonzero(~wanted)
    first = _evenly(first, MAX_DRAWN)
    return np.sort(np.concatenate([first, _evenly(rest, MAX_DRAWN - len(first))]))


def _evenly(rows: np.ndarray, n: int) -> np.ndarray:
    if len(rows) <= n:
        return rows
    return rows[(np.arange(n) * len(rows) // max(n, 1))]


def most_failing(points: pa.Table) -> list[str]:
    """Return the labels of most failures, the most first, at most MAX_LABELS."""
    failures = points.filter(pc.equal(points["role"], "failure"))["label"]
    counts = {one["values"]: one["counts"] for one in pc.value_counts(failures).to_pylist()}
    return sorted(counts, key=lambda label: (-counts[label], label))[:MAX_LABELS]


def _places(points: pa.Table) -> np.ndarray:
    """Whole numbers (N, 2) within the drawing; y grows downwards there."""
    xy = np.column_stack([points["x"].to_numpy(), -points["y"].to_numpy()])
    half = _SIDE / 2
    return np.rint(half + xy * (half - _MARGIN)).astype(int)


def _panel(title: str, kinds: Sequence[_Kind], places: np.ndarray) -> Panel:
    paths = "".join(_path(kind, np.unique(places[kind.rows], axis=0)) for kind in kinds)
    counted = ", ".join(f"{kind.name}: {int(kind.rows.sum()):,}" for kind in kinds)
    described = escape(f"Map {title}. {counted}.")
    drawing = (
        f'<svg role="img" aria-label="{described}" viewBox="0 0 {_SIDE} {_SIDE}">{paths}</svg>'
    )
    return Panel(title, Markup(drawing), tuple(_key(kind) for kind in kinds))


def _path(kind: _Kind, places: np.ndarray) -> str:
    shape = _SHAPES[kind.shape]
    drawn = "".join(f"M{x} {y}{shape}" for x, y in places.tolist())
    return f'<path class="{kind.shape} {kind.colour}" d="{drawn}"/>' if drawn else ""


def _key(kind: _Kind) -> Key:
    side = _LEGEND_SIDE
    middle = np.array([[side // 2, side // 2]])
    drawn = f'<svg aria-hidden="true" viewBox="0 0 {side} {side}">{_path(kind, middle)}</svg>'
    return Key(Markup(drawn), kind.name, int(kind.rows.sum()))
