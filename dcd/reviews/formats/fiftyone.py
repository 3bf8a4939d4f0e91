"""FiftyOne: a dataset folder of the type FiftyOneImageClassificationDataset.

Format: FiftyOne's documentation, "FiftyOneImageClassificationDataset": labels.json with `classes`
and `labels`, an index or a name for every file of data/, by its name without ending.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dcd.errors import DataError
from dcd.reviews.hand_off import NONE_OF_THESE, Answer, Asked


def written(asked: Sequence[Asked], classes: Sequence[str]) -> Mapping[str, bytes]:
    """Write labels.json; the pictures lie in data/."""
    names = [*classes, *sorted({one.label for one in asked} - set(classes)), NONE_OF_THESE]
    labels = {one.key: names.index(one.label) for one in asked}
    document = {"classes": names, "labels": labels}
    return {"labels.json": json.dumps(document, indent=1, ensure_ascii=False).encode()}


def answers(data: bytes, place: str) -> list[Answer]:
    """Read labels.json of an exported view: every image in it was decided about.

    A missing label rejects. Raises DataError for what is no such file.
    """
    try:
        document: Any = json.loads(data)
        names, labels = document.get("classes"), document["labels"]
        found = [(str(key), _label(value, names)) for key, value in labels.items()]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise DataError(
            f"{place}: is no labels.json of FiftyOne ({err!r}); export the reviewed view as "
            "FiftyOneImageClassificationDataset"
        ) from err
    return [Answer(k, label, "fiftyone", "") for k, label in found]


def _label(value: Any, names: Any) -> str | None:
    if isinstance(value, dict):  # where confidence or attributes are exported too
        value = value.get("label")
    if value is None or isinstance(value, str):
        return value
    if not 0 <= value < len(names):
        raise IndexError(f"label {value} of {len(names)} classes")
    return str(names[value])
