"""Show the failures of a model on one self-contained page, grouped by label and mode."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from dcd.failures.collect import ErrorCollection, ModeCount
from dcd.report.page import fill_page
from dcd.report.thumbnails import album

MAX_GROUPS = 60
MAX_SHOWN = 48  # of one mode
MAX_PICTURE_BYTES = 3_000_000


@dataclass(frozen=True)
class Shot:
    """One failure on the sheet."""

    image_id: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Sheet:
    """The failures of one mode, those that the model is surest of first."""

    count: ModeCount
    shots: tuple[Shot, ...]

    @property
    def n_hidden(self) -> int:
        return self.count.n_failures - len(self.shots)


def render_sheet(
    found: ErrorCollection,
    title: str,
    image_bytes: Callable[[Collection[str]], Mapping[str, bytes]],
) -> str:
    """Make the page as HTML: no script, no network, every string escaped."""
    sheets = _sheets(found)
    in_turns = sorted(
        (turn, n, shot.image_id)
        for n, sheet in enumerate(sheets)
        for turn, shot in enumerate(sheet.shots)
    )
    pictures = album([image_id for _, _, image_id in in_turns], image_bytes, MAX_PICTURE_BYTES)
    return fill_page(
        "errors.html",
        title=title,
        found=found,
        sheets=sheets,
        n_hidden_groups=len(found.modes) - len(sheets),
        pictures=pictures.uris,
    )


def _sheets(found: ErrorCollection) -> list[Sheet]:
    shots: dict[tuple[str, str], list[Shot]] = {}
    for row in found.rows.to_pylist():
        if row["role"] == "error_sample":
            shot = Shot(row["image_id"], row["predicted"], row["confidence"])
            shots.setdefault((row["label"], row["mode"]), []).append(shot)
    return [
        Sheet(
            count,
            tuple(
                sorted(shots[count.label, count.mode], key=lambda s: (-s.confidence, s.image_id))
            )[:MAX_SHOWN],
        )
        for count in found.modes[:MAX_GROUPS]
    ]
