"""Show an explanation as one self-contained page: the failure, and what speaks for and against."""

from typing import Any

from dcd.influence.of_run import Explanation, pictures_of
from dcd.report.page import fill_page
from dcd.report.thumbnails import album
from dcd.store import Store

_MAX_PAGE_BYTES = 4_000_000
_THUMBNAIL_PX = 112
_ASKED = ("asked", "")


def render(store: Store, found: Explanation, n: int) -> str:
    """Make the page with the n strongest images on both sides; every string is escaped."""
    sides = found.against(n), found.in_favour(n)
    every = [row for side in sides for row in side]
    data = pictures_of(store, found, every)
    if found.failure.picture is not None:
        data[_ASKED] = found.failure.picture
    uses = [_ASKED, *((row["source"], row["image_id"]) for row in every)]
    shown = album(
        uses, lambda ids: {i: data[i] for i in ids if i in data}, _MAX_PAGE_BYTES, _THUMBNAIL_PX
    )
    uris = shown.uris
    against, in_favour = ([_shown(row, uris) for row in side] for side in sides)
    return fill_page(
        "influence.html",
        found=found,
        answer=found.effects.answer,
        asked=uris.get(_ASKED),
        against=against,
        in_favour=in_favour,
    )


def _shown(row: dict[str, Any], uris: Any) -> dict[str, Any]:
    return row | {"uri": uris.get((row["source"], row["image_id"]))}
