"""Find a case's folders by their names, and say what is missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["pool", "train", "test", "failures"]

# What people call them, the likeliest first.
_NAMES: dict[Part, tuple[str, ...]] = {
    "pool": ("pool", "crawl", "unlabelled", "unlabeled", "weak"),
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
    "failures": ("failures", "errors", "failing", "fails"),
}
WHAT: dict[Part, str] = {
    "pool": "the huge set of images with weak labels to choose from",
    "train": "what the model was trained on",
    "test": "images that a new model must not get worse on",
    "failures": "labelled images that the model gets wrong",
}
_FORMS = "a folder of class folders, a glob of tars or Parquet files, or a manifest"


@dataclass(frozen=True)
class Places:
    """Where the parts of a case are; None for what is not known."""

    pool: str | None = None
    train: str | None = None
    test: str | None = None
    failures: str | None = None

    def missing(self) -> list[str]:
        """Return a sentence for each part that is not known."""
        told = []
        for part, what in WHAT.items():
            if getattr(self, part) is None:
                hint = f"--{part}: is missing: {what}; give {_FORMS}"
                if part == "failures":
                    hint += ". None sorted yet? `dcd errors MODEL FOLDER` collects them"
                told.append(hint)
        return told


def find(part: Part, below: Path) -> str | None:
    """Return the folder below `below` that has a usual name of this part, as a path to write.

    `Train` is a usual name as `train` is; where both are there, the one in lower case.
    """
    folders = sorted((path for path in below.glob("*") if path.is_dir()), reverse=True)
    of = {path.name.lower(): str(path) for path in folders}
    of |= {path.name: str(path) for path in folders}
    return next((of[name] for name in _NAMES[part] if name in of), None)
