"""Cut labelled failures into the error sample, debug_val and debug_heldout."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources.shards import read_images
from dcd.store.local_files import published
from dcd.tables.schemas import content_hash

# Of ten images four, three and three: the shares of `dcd errors`. The first three have each once.
_ROLES = ("error_sample", "debug_heldout", "debug_val")
_TURNS = (*_ROLES, *_ROLES, *_ROLES, "error_sample")
_AT_LEAST = 3  # different images of a label: one for each role


@dataclass(frozen=True)
class Cut:
    """rows: image_id, label, role. n_unlabelled: images left out for want of a label.

    few: labels with too few different images to be in every role, with their number.
    """

    rows: pa.Table
    n_unlabelled: int
    few: dict[str, int]

    def counts(self) -> dict[str, int]:
        """Return the number of images a role."""
        roles = self.rows["role"].to_pylist()
        return {role: roles.count(role) for role in _ROLES}


def cut_failures(images: str) -> Cut:
    """Give every failure a role, label by label, in the order of the images' digests.

    The same images are cut alike everywhere, and copies of an image have one role. Frames of a
    burst are no copies and may be parted. Reads all of them. Raises DataError if there are no
    labelled images, or none for one of the roles.
    """
    by_label: dict[str, dict[bytes, list[str]]] = defaultdict(lambda: defaultdict(list))
    n_unlabelled = 0
    for image in read_images(DataConfig(images=images)):
        if image.weak_label is None:
            n_unlabelled += 1
            continue
        by_label[image.weak_label][content_hash(image.data)].append(image.image_id)
    rows = [
        {"image_id": image_id, "label": label, "role": _TURNS[turn % len(_TURNS)]}
        for label, contents in sorted(by_label.items())
        for turn, content in enumerate(sorted(contents))
        for image_id in contents[content]
    ]
    found = {row["role"] for row in rows}
    if found != set(_ROLES):
        raise DataError(
            f"{images}: {len(rows)} labelled images ({n_unlabelled} without a label) are too few "
            f"to cut into {', '.join(_ROLES)}; give at least {_AT_LEAST} different "
            "ones of a label, in class folders or with labels beside them"
        )
    few = {label: len(found) for label, found in by_label.items() if len(found) < _AT_LEAST}
    return Cut(pa.Table.from_pylist(rows), n_unlabelled, few)


def write_roles(path: Path, cut: Cut) -> None:
    """Write the rows as CSV, whole or not at all."""
    with published(str(path)) as file:
        pacsv.write_csv(cut.rows, file)
