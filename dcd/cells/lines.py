"""The models that a recipe judges: some heads, and what lies on lines between mixtures of them.

Heads of clean labels and heads of many images err in different ways, so their average is often
better than either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcd.evaluation.choice import mixture_name

BASELINES = ("none", "error_sample", "whole_pool", "filtered_pool")
ENDS = (*BASELINES, "targeted")
# Those that no failure has a part in: new failures leave them as they are.
WITHOUT_FAILURES = ("none", "whole_pool", "filtered_pool")
_ALPHAS = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class Line:
    """What lies between two mixtures of ends: (1 - alpha) · first + alpha · second.

    first, second: shares by end, their sum being 1, some of them below 0 perhaps. alpha goes from 0
    to 1 in tenths.
    """

    first: Mapping[str, float]
    second: Mapping[str, float]
    alphas: tuple[float, ...] = _ALPHAS

    @property
    def names(self) -> tuple[str, str]:
        return mixture_name(self.first), mixture_name(self.second)

    @property
    def ends(self) -> list[str]:
        return sorted(self.first.keys() | self.second.keys())

    def at(self, alpha: float) -> dict[str, float]:
        """The shares of the ends, none of which is 0."""
        mixed = {
            end: round((1 - alpha) * self.first.get(end, 0) + alpha * self.second.get(end, 0), 6)
            for end in self.ends
        }
        return {end: share for end, share in mixed.items() if share}


# The selection, and half of what the failures alone change in the model that fails: added as
# weights, it costs test less than a larger weight in the loss (Ilharco et al. 2023, "Editing models
# with task arithmetic", ICLR).
AIMED = {"targeted": 1.0, "error_sample": 0.5, "none": -0.5}

LINES = (
    Line({"error_sample": 1.0}, {"whole_pool": 1.0}),
    Line({"whole_pool": 1.0}, AIMED),
    Line({"error_sample": 0.5, "whole_pool": 0.5}, AIMED),
    Line({"error_sample": 1.0}, AIMED),
    Line({"filtered_pool": 1.0}, AIMED),
)


@dataclass(frozen=True)
class Point:
    """A model between ends: their shares, and where it lies; line: None for an end alone."""

    shares: Mapping[str, float]
    line: Line | None = None
    alpha: float = 0.0

    @property
    def line_name(self) -> str:
        return "" if self.line is None else " to ".join(self.line.names)


def points() -> list[Point]:
    """Every model that is judged: the ends alone, then the lines with both of theirs."""
    alone = [Point({name: 1.0}) for name in ENDS]
    on_lines = [Point(line.at(alpha), line, alpha) for line in LINES for alpha in line.alphas]
    return alone + on_lines


def line_of(point: Point) -> Line:
    """The line that a model is shown on; of `none`, on no line that is judged, the two ends."""
    if point.line is not None:
        return point.line
    (end,) = point.shares
    lines = [line for line in LINES if dict(line.first) == {end: 1.0} and "targeted" in line.second]
    return lines[0] if lines else Line({end: 1.0}, {"whole_pool": 1.0}, (0.0, 1.0))


def shares_at(names: Sequence[str], alpha: float) -> dict[str, float]:
    """The shares of the ends at a place of the line that has these names, as a curve tells them.

    Raises KeyError where no line is called so.
    """
    every = {line_of(point).names: line_of(point) for point in points()}
    return every[names[0], names[1]].at(alpha)
