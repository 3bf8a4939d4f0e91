"""Put numbers with their unit, and changes of them, into words for people."""

from typing import Literal

from dcd.evaluation.pool_gaps import kind_name
from dcd.evaluation.stats import Interval

Change = Literal["rose", "fell", "unclear"]


def change(gain: Interval) -> Change:
    """Say what a 95 % interval of a difference allows to say."""
    if gain.low > 0:
        return "rose"
    return "fell" if gain.high < 0 else "unclear"


def percent(share: float) -> str:
    """0.605 → '60.5 %'."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """0.198 → '+19.8', in percentage points."""
    rounded = round(100 * difference, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def interval(found: Interval) -> str:
    """Say the bounds of a difference in points: '+14.2 to +25.4'."""
    return f"{points(found.low)} to {points(found.high)}"


def mode_name(mode: str | None, label: str | None) -> str:
    """Name a mode: 'deer, mode 2'; the part that is not known is left out."""
    if mode is None:
        return label or "all"
    return f"mode {mode}" if label is None else kind_name(label, mode)
