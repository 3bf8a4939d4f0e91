"""Tell of every object whether it can be made again, and what says that it need not be.

Derived objects are functions of their keys: a run makes them again. What a run or a comparison
shows is made again by running its config. Registered failures, reviews and the champion's history
came from outside or from a moment that is past: they are kept, backed up, and never guessed.
"""

import fnmatch
from collections.abc import Sequence
from typing import Literal

from dcd.store import keys
from dcd.store.parts import part_of, says_done

Kind = Literal["derived", "view", "kept", "foreign"]

_KEPT = (
    f"{keys.FAILURE_BATCHES}/*",
    f"{keys.FAILURE_RECEIPTS}/*",
    f"{keys.covered_failures()}/*",
    f"{keys.REVIEW_BATCHES}/*",
    keys.FORGOTTEN_MARKS,
    f"{keys.CHAMPION_CHANGES}/*",
    keys.CHAMPION,
)
_DERIVED = (
    *("pools/*", "embeddings/*", "rejects/*", "hashes/*", f"{keys.INDEXES}/*", "splits/*"),
    f"{keys.CALIBRATIONS}/*",
    *("lpips/*", "neighbors/*", "selections/*", "reviewed/*", "heads/*", "noise/*", "cells/*"),
    *("copies/*", "evaluations/*", f"{keys.MAPS}/*", f"{keys.RESULTS}/*", "failures/announced/*"),
    *(keys.FAILURES_VIEW, keys.RECEIPTS_VIEW, keys.REVIEWS_VIEW, keys.STORE_FORMAT),
)
_VIEWS = (f"{keys.RUNS}/*", f"{keys.COMPARISONS}/*")
_OF_AN_INDEX = (
    *("vectors-*", "labels.parquet", "sample.parquet", "lists.parquet", "codec.parquet"),
    *("sources.json", "pseudo_labels.parquet"),
)
_REMEDIES: dict[Kind, str] = {
    "derived": "the next run that needs it sets it aside and makes it again",
    "view": "run its config again, which writes it anew",
    "kept": "nothing can make it again; fetch it back with `dcd store restore BACKUP`",
    "foreign": "it is none of dcd's objects",
}


def kind_of(key: str) -> Kind:
    """Tell whether an object is derived, the view of a run, kept, or none of ours."""
    kinds: tuple[tuple[Kind, Sequence[str]], ...]
    kinds = (("kept", _KEPT), ("derived", _DERIVED), ("view", _VIEWS))
    for kind, patterns in kinds:
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns):
            return kind
    return "foreign"


def remedy(key: str) -> str:
    """Say what mends a damaged object."""
    return _REMEDIES[kind_of(key)]


def marker_of(key: str) -> str:
    """Return the object whose presence says that a derived one is there: maybe itself."""
    folder, _, rest = key.partition("/")
    part = part_of(key)
    name = key.rpartition("/")[2]
    if folder == "rejects":
        return f"embeddings/{rest}"
    if part is None or name.endswith("checkpoint.pt"):
        return key
    if folder == keys.INDEXES:
        if name == "directions.parquet":
            return f"{key.rpartition('/')[0]}/rows.parquet"
        of_index = any(fnmatch.fnmatchcase(name, pattern) for pattern in _OF_AN_INDEX)
        return says_done(part) if of_index else key
    return says_done(part)
