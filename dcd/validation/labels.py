"""Say what may be wrong with the labels of a run as a whole: twins, codes without names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Set

from dcd.validation.inventory import Inventory
from dcd.validation.problems import Note

_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?$")


def label_notes(place: str, counts: Mapping[str, int]) -> Iterator[Note]:
    """Tell of labels that look alike, and of numbers beside names. counts: images by label."""
    yield from look_alikes(place, counts)
    numbers = [label for label in counts if _is_number(label)]
    if numbers and len(numbers) < len(counts):
        names = [label for label in counts if not _is_number(label)]
        yield Note(
            place,
            f"{sum(counts[label] for label in numbers):,} images have numbers for labels (such as "
            f"{min(numbers)!r}), {sum(counts[label] for label in names):,} have names (such as "
            f"{min(names)!r}): if the numbers are codes, nothing tells which name each means; give "
            "the names everywhere",
        )


def look_alikes(place: str, counts: Mapping[str, int]) -> Iterator[Note]:
    """Tell of labels that differ only in case, width, white space or leading zeros.

    They stay different labels. counts: images by label.
    """
    alike: dict[str, list[str]] = {}
    for label in sorted(counts):
        alike.setdefault(_folded(label), []).append(label)
    for labels in alike.values():
        if len(labels) > 1:
            listed = ", ".join(f"{label!a} ({counts[label]:,} images)" for label in labels)
            yield Note(
                place, f"{listed} are different labels that look alike; rename them if they are one"
            )


def code_hint(found: Set[str], known: Set[str]) -> str:
    """Say so where labels are bare numbers and those that are known have names, or the reverse."""
    bare, named = _all_numbers(found), _all_numbers(known)
    if bare == named or not found or not known:
        return ""
    one, other = ("numbers", "names") if bare else ("names", "numbers")
    return (
        f" (these labels are {one}, those are {other}: nothing tells which number means which "
        "name; give the names everywhere)"
    )


def label_counts(inventory: Inventory) -> Counter[str]:
    """Count the images of a source by label."""
    return Counter(label for label in inventory.label_of.values() if label is not None)


def _folded(label: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _all_numbers(labels: Set[str]) -> bool:
    return all(_is_number(label) for label in labels)


def _is_number(label: str) -> bool:
    return _NUMBER.match(label) is not None
