"""Which files of a source are images by their names, and the count of those that are none.

One rule for folders, S3 listings, tars and the inbox: hidden files and folder markers are none,
then the suffix decides; what is passed over is counted, with examples.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dcd.images.formats import is_image_name, suffix_of

Kind = Literal[
    "hidden",
    "folder marker",
    "no image",
    "archive",
    "label file",
    "other view",
    "loose image",
    "table",
    "nameless folder",
]
_N_EXAMPLES = 3
_MARKER_SUFFIX = "_$folder$"  # Hadoop's
_NOT_READ = frozenset(
    ("zip", "rar", "7z", "zst", "gz", "tgz", "bz2", "xz", "tar", "lmdb", "mdb", "tfrecord")
) | frozenset(
    ("h5", "hdf5", "npz", "npy", "arrow", "feather", "orc", "mat", "pkl", "pt", "bin", "rec", "mds")
)
_IN_WORDS: dict[Kind, tuple[str, str]] = {
    "hidden": ("hidden", "hidden"),
    "folder marker": ("empty folder marker", "empty folder markers"),
    "no image": ("file that is no image by its suffix", "files that are no images by their suffix"),
    "archive": ("archive that is not read here", "archives that are not read here"),
    "label file": ("label file beside an image", "label files beside images"),
    "other view": (
        "picture beside the image of its key, without a label of its own",
        "pictures beside the image of their key, without labels of their own",
    ),
    "loose image": ("image beside the archives", "images beside the archives"),
    "table": ("table without image bytes", "tables without image bytes"),
    "nameless folder": (
        "image in a folder without a name, behind a double slash",
        "images in a folder without a name, behind a double slash",
    ),
}


_OTHER_FORMS = tuple(
    (re.compile(pattern, re.IGNORECASE), form)
    for pattern, form in (
        (
            r"\.mds(\.\w+)?$",
            "a shard of MosaicML's MDS; name the folder that holds its index.json",
        ),
        (r"(^|/)index\.json$", "the index of MosaicML's MDS; name the folder that it lies in"),
        (r"(^|/)_versions/|\.lance$", "a Lance dataset, whose folder must end in .lance"),
        (r"\.arrow$", "what `datasets` writes by save_to_disk; write it by to_parquet"),
        (r"\.tfrecord", "TFRecord, which is not read; write WebDataset tars or Parquet"),
        (r"\.(mdb|lmdb)$", "LMDB, which is not read; write WebDataset tars or Parquet"),
        (r"\.(zip|rar|7z)$", "a packed folder; unpack it, or pack it as a tar"),
        (
            r"\.(jsonl?|ndjson)$",
            "a list in JSON, which is not read; write it as .csv or Parquet with a column uri",
        ),
    )
)


@dataclass
class PassedOver:
    """A tally of what was not taken for an image: counts and a few names, by kind."""

    counts: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The examples of all kinds."""
        return [name for named in self.examples.values() for name in named]

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, kind: Kind, name: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.examples.setdefault(kind, [])
        if len(named) < _N_EXAMPLES:
            named.append(name)

    def update(self, other: "PassedOver") -> None:
        """Add another tally to this one."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            named = self.examples.setdefault(kind, [])
            named += other.examples[kind][: _N_EXAMPLES - len(named)]

    def __str__(self) -> str:
        """`3 passed over: 2 hidden ('._a.png', '.DS_Store'), 1 folder marker ('cat/')`."""
        parts = []
        for kind, count in self.counts.items():
            named = ", ".join(repr(name) for name in self.examples[kind])
            more = ", …" if count > len(self.examples[kind]) else ""
            parts.append(f"{count:,} {_IN_WORDS[kind][count > 1]} ({named}{more})")
        return f"{len(self):,} passed over: {', '.join(parts)}"


def is_hidden(name: str) -> bool:
    """Tell whether a file, or a folder that it is in, is hidden: `.x`, AppleDouble's `._x`,
    __MACOSX.
    """
    parts = name.replace("\\", "/").split("/")
    return any((p.startswith(".") and p not in (".", "..")) or p == "__MACOSX" for p in parts)


def other_form(names: Sequence[str]) -> str:
    """Give a hint where files are of a form that is known and not read; "" where they are none."""
    for pattern, form in _OTHER_FORMS:
        if any(pattern.search(name) for name in names):
            return f"; looks like {form}"
    return ""


def why_no_image(name: str, n_bytes: int | None, *, by_suffix: bool) -> Kind | None:
    """Tell why a file is no image; None where it is one. `name` counts from the root of its source.

    by_suffix: False where a name without any suffix may be an image too, as in a class folder.
    n_bytes: None where the size is not known.
    """
    if is_hidden(name):
        return "hidden"
    suffix = suffix_of(name)
    if name.endswith(("/", _MARKER_SUFFIX)) or (n_bytes == 0 and not suffix):
        return "folder marker"
    if is_image_name(name) or (not suffix and not by_suffix):
        return None
    return "archive" if suffix in _NOT_READ else "no image"
