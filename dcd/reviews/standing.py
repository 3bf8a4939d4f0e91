"""Say what stands of many decisions, image by image: the last one on it wins. Pure.

An undo takes back what the same reviewer last said of the image and that still stands. A skip says
nothing of the image, so that what stood before it goes on to stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from dcd.reviews.decisions import Verb


@dataclass(frozen=True)
class Standing:
    """What is decided about one image; images are told apart by their content.

    verb: the last decision that was not taken back, with its reviewer and time. true_label: the
    label that the image has; None where nobody said. rejected: labels that it does not have.
    shown: all labels under which it was shown.
    """

    image_id: str
    content_hash: bytes
    pool: str
    verb: Verb
    reviewer: str
    decided: datetime
    true_label: str | None
    rejected: frozenset[str]
    shown: frozenset[str]

    @property
    def counts(self) -> bool:
        """Whether it says anything of the image's label."""
        return self.true_label is not None or bool(self.rejected)


def standing(reviews: pa.Table) -> Mapping[bytes, Standing]:
    """Return what stands, by content; images of which all was taken back are left out.

    reviews: schemas.REVIEWS, the earliest first.
    """
    of_image: dict[bytes, list[dict]] = {}
    for row in reviews.to_pylist():
        live = of_image.setdefault(row["content_hash"], [])
        if row["decision"] != "undo":
            live.append(row)
            continue
        own = [i for i, before in enumerate(live) if before["reviewer"] == row["reviewer"]]
        if own:
            del live[own[-1]]
    return {content: _of(live) for content, live in of_image.items() if live}


def _of(live: list[dict]) -> Standing:
    """live: the decisions on one image that were not taken back, at least one."""
    true_label: str | None = None
    rejected: set[str] = set()
    for row in live:
        match row["decision"]:
            case "accept":
                true_label = row["label"]
            case "relabel":
                true_label = row["true_label"]
            case "reject":
                rejected.add(row["label"])
                true_label = None if true_label == row["label"] else true_label
        rejected.discard(true_label or "")
    last = live[-1]
    return Standing(
        last["image_id"],
        last["content_hash"],
        last["pool"],
        last["decision"],
        last["reviewer"],
        last["decided"],
        true_label,
        frozenset(rejected),
        frozenset(row["label"] for row in live),
    )


@dataclass(frozen=True)
class Correction:
    """What a review says of a label: an image called `label` is `true_label`, or just not that."""

    content: str
    label: str
    true_label: str | None


def corrections(reviews: pa.Table) -> tuple[Correction, ...]:
    """Return what stands about labels, sorted: one for every label that an image was shown under.

    reviews: schemas.REVIEWS, the earliest first.
    """
    found = [
        Correction(content.hex(), label, one.true_label)
        for content, one in standing(reviews).items()
        for label in one.shown
        if one.true_label is not None or label in one.rejected
    ]
    return tuple(sorted(found, key=lambda c: (c.content, c.label)))
