"""Find pictures that two splits share under different ids: figures on seen pictures prove nothing.

By content, so that a copy under another name is found. `dcd.validation` tells the same before a
run, of as many pictures as it reads.
"""

import logging
from collections.abc import Mapping
from functools import cache, partial
from itertools import combinations

from dcd.config import Split
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys

log = logging.getLogger(__name__)
_APART: tuple[Split, ...] = ("train", "test", "error_sample", "debug_val", "debug_heldout")


def shared_pictures(store: Store, of_seeds: Mapping[int, Mapping[Split, SplitInfo]]) -> list[str]:
    """Tell, a sentence each, which splits of a seed share pictures, and log it."""
    told: list[str] = []
    content_of = cache(partial(_content, store))  # most splits are those of several seeds
    for seed, splits in of_seeds.items():
        content: dict[Split, dict[bytes, str]] = {
            name: content_of(splits[name].id) for name in _APART if name in splits
        }
        for one, other in combinations(content, 2):
            here, there = content[one], content[other]
            words = shared_words(one, here, there)
            if words:
                told.append(f"{other} (seed {seed}): {words}")
    for words in told:
        log.warning("%s", words)
    return told


def shared_words(one: Split, here: Mapping[bytes, str], there: Mapping[bytes, str]) -> str:
    """Say which pictures of a split are in split `one` too; "" without any.

    here, there: an id of each picture in `one` and in the other, by content.
    """
    common = sorted(here.keys() & there.keys(), key=lambda content: there[content])
    if not common:
        return ""
    first = common[0]
    return (
        f"{len(common):,} pictures of {len(there):,} that were looked at are in {one} too, such "
        f"as {there[first]!r}, which is {here[first]!r} there: figures on seen pictures prove "
        "nothing, so leave them out of one of the two"
    )


def _content(store: Store, split_id: str) -> dict[bytes, str]:
    """The last id of each picture, by its content."""
    rows = store.read_table(keys.split(split_id), ["image_id", "content_hash"])
    return dict(zip(rows["content_hash"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
