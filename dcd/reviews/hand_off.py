"""What goes out to annotators and what comes back, whatever tool they use. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dcd.config.explain import closest
from dcd.errors import DataError
from dcd.reviews.decisions import Verb
from dcd.tables.labels import clean_text

Tool = Literal["label-studio", "cvat", "fiftyone", "csv"]

# What an annotator chooses where no class is right: a name that no class may have.
NONE_OF_THESE = "none of these"


@dataclass(frozen=True)
class Asked:
    """An image to be decided about. key: its content in hex, which is its file's name too.

    file: its picture's path beside the hand-off; url: where the tool finds it. distance: l2 to the
    failure it was picked for; None where there is none. width, height: pixels.
    """

    key: str
    image_id: str
    label: str
    file: str
    url: str
    width: int
    height: int
    distance: float | None = None
    agreement: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came back about one image. label: what it is; None: none of the classes.

    skipped: nobody said anything. stamp: tells this answer from every other, also from the same
    words at another time; "" where the tool keeps no time.
    """

    key: str
    label: str | None
    reviewer: str
    stamp: str
    skipped: bool = False


@dataclass(frozen=True)
class Judged:
    """An answer as a decision about an image that was shown under a label."""

    answer: Answer
    verb: Verb
    true_label: str | None


# Reads the text of a file; one answer an image and annotator, the earliest first.
ReadAnswers = Callable[[bytes, str], list[Answer]]


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise DataError if a class has the name that stands for no class."""
    if NONE_OF_THESE in classes:
        raise DataError(f"a class is called {NONE_OF_THESE!r}, which is how annotators say no")


def contradictions(answers: Sequence[Answer]) -> dict[tuple[str, str], str]:
    """Find who says two things of an image in one file that keeps no time: neither is the later.

    Returns in words what was said, by key and reviewer.
    """
    said: dict[tuple[str, str], set[str]] = {}
    for answer in answers:
        if not answer.stamp and not answer.skipped:
            said.setdefault((answer.key, answer.reviewer), set()).add(answer.label or NONE_OF_THESE)
    return {
        (key, reviewer): f"{key[:80]}: stands there as {', '.join(map(repr, sorted(labels)))} "
        f"by {reviewer[:80]}; keep one of them"
        for (key, reviewer), labels in said.items()
        if len(labels) > 1
    }


def judged(answer: Answer, labels: Mapping[str, str], classes: tuple[str, ...]) -> Judged | str:
    """Turn an answer into a decision, or say why it cannot be taken.

    labels: under which each image was shown, by key.
    """
    shown = labels.get(answer.key)
    if shown is None:
        return f"{answer.key[:80]}: unknown image; it is not among those that went out"
    if answer.skipped:
        return Judged(answer, "skip", None)
    label = None if answer.label is None else clean_text(answer.label)
    if label is None or label == NONE_OF_THESE:
        return Judged(answer, "reject", None)
    if label == shown:
        return Judged(answer, "accept", None)
    if label not in classes:
        guess = closest(label, list(classes))
        meant = f" (did you mean {guess!r}?)" if guess else ""
        return f"{answer.key[:80]}: unknown label {label[:100]!r}{meant}"
    return Judged(answer, "relabel", label)
