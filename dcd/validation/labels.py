"""Say what may be wrong with the labels of a run as a whole: twins, codes without names, truth."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Set

from dcd.config import PoolConfig
from dcd.splits.label_table import LabelTable, read_true_labels
from dcd.validation.inventory import Inventory
from dcd.validation.problems import Note


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


def true_label_notes(pool: PoolConfig, inventory: Inventory | None) -> list[Note]:
    """Read the true labels as the report will, and tell what was cleaned or is missing.

    Raises DataError or LabelError as `read_true_labels` does.
    """
    if pool.true_labels is None:
        return []
    place = "pool.true_labels"
    truth: LabelTable = read_true_labels(pool.true_labels, place)
    notes = [Note(place, told) for told in truth.notes]
    if inventory is not None and inventory.complete:
        known = set(truth.rows["image_id"].to_pylist()) & inventory.shard_of.keys()
        n_unknown = len(inventory.shard_of) - len(known)
        if n_unknown:
            notes.append(
                Note(
                    place,
                    f"{n_unknown:,} of {len(inventory.shard_of):,} pool images have no true label; "
                    "label precision is reported only where every pick has one",
                )
            )
    return notes


def label_counts(inventory: Inventory) -> Counter[str]:
    """Count the images of a source by label."""
    return Counter(label for label in inventory.label_of.values() if label is not None)


def _folded(label: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _all_numbers(labels: Set[str]) -> bool:
    return all(label.isdecimal() for label in labels)
