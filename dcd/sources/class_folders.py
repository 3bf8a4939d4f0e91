"""Folders of class folders: which of their files are images, in which pieces, with what label.

The label is the first folder's name. Label files beside the images (`7.txt` of `7.jpg`) take its
place where `label_column` names them, or where img2dataset wrote the folder: its folders are
numbered shards, not classes.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dcd.errors import DataError
from dcd.sources.objects import Object
from dcd.sources.passed_over import PassedOver, is_hidden, why_no_image
from dcd.sources.sample_labels import may_label, split_key
from dcd.store.filesystems import Location
from dcd.tables.labels import shown_name

PIECE_IMAGES = 10_000
_HIVE = re.compile(r"^(\w+)=(.*)$")
_IMG2DATASET = re.compile(r"^\d+$")
_IMG2DATASET_BESIDE = ("{}_stats.json", "{}.parquet")


@dataclass(frozen=True)
class FolderImages:
    """The images among the files of a folder, sorted, and the label files beside each.

    labels: by path of the image, its label files by the suffix that follows the image's key.
    """

    images: tuple[Object, ...]
    labels: dict[str, dict[str, Object]]


def images_among(
    root: Location,
    files: Sequence[Object],
    label_column: str | None,
    passed_over: PassedOver | None = None,
) -> FolderImages:
    """Return the images among all files of `root` or of one of its class folders.

    A name without suffix is an image in a class folder, and in a root without class folders.
    `passed_over` gets the others, but for label files of an image.
    """
    start = len(root.path) + 1
    named = [(item, shown_name(item.path[start:])) for item in files]
    has_folders = any("/" in name[:-1] and not is_hidden(name) for _, name in named)
    images: list[Object] = []
    beside: list[tuple[Object, str]] = []
    tally = PassedOver() if passed_over is None else passed_over
    for item, name in named:
        size = item.n_bytes if item.is_regular else None
        why = why_no_image(name, size, by_suffix=has_folders and "/" not in name)
        if why is None and name.startswith("/"):  # `pool//cat/1.png`: no path leads to its class
            why = "nameless folder"
        if why is None:
            images.append(item)
        elif why == "no image" and may_label(split_key(name)[1], label_column):
            beside.append((item, name))
        else:
            tally.add(why, name or f"{posixpath.basename(root.path)}/")
    keys = {split_key(item.path)[0] for item in images}
    labels: dict[str, dict[str, Object]] = {}
    for item, name in beside:
        key, suffix = split_key(item.path)
        if key in keys:
            labels.setdefault(key, {})[suffix] = item
        else:
            tally.add("no image", name)
    return FolderImages(
        tuple(images),
        {item.path: labels.get(split_key(item.path)[0], {}) for item in images},
    )


def class_pieces(
    root: Location, images: Iterable[Object]
) -> Iterator[tuple[str, int, list[Object]]]:
    """Return the sorted images below a folder as (class, piece number, at most 10,000 images).

    The class is the first folder below the root; "" stands for the images that lie in none.
    """
    classes: dict[str, list[Object]] = {}
    for item in images:
        label, slash, _ = item.path[len(root.path) + 1 :].partition("/")
        classes.setdefault(label if slash else "", []).append(item)
    for label, members in sorted(classes.items()):
        for piece, start in enumerate(range(0, len(members), PIECE_IMAGES)):
            yield label, piece, members[start : start + PIECE_IMAGES]


def refuse_hive(uri: str, labels: Iterable[str]) -> None:
    """Raise DataError where the class folders are partitions of Hive, `label=cat`."""
    found = next((label for label in labels if _HIVE.match(label)), None)
    if found is not None:
        name = _HIVE.sub(r"\2", found)
        raise DataError(
            f"{uri}: the folder {found!r} is named like a Hive partition, and would be the class "
            f"{found!r}; rename such folders to their value ({name!r}), or give a labels table"
        )


def is_img2dataset(root: Location, folder: str) -> bool:
    """Tell whether img2dataset wrote a folder of `root`: its name is the number of a shard."""
    if not _IMG2DATASET.match(folder):
        return False
    beside = (posixpath.join(root.path, name.format(folder)) for name in _IMG2DATASET_BESIDE)
    return any(root.fs.exists(path) for path in beside)
