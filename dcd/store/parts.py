"""The parts of a store that runs are views of: cells, selections, indexes, splits, maps.

A part is named by its prefix, or its key where it is one object. What only saves work (CACHES) is a
part an object, of which no run is a view.
"""

import re

from dcd.store import keys

_DIGEST = re.compile("[0-9a-f]{12}")
_DEPTH = {"cells": 1, keys.INDEXES: 3, keys.MAPS: 1, "selections": 1, "splits": 1}
CACHES = ("copies", "evaluations", "heads", "lpips", "neighbors", "noise", keys.RESULTS)
FOLDERS = (*_DEPTH, *CACHES)


def part_of(key: str) -> str | None:
    """Return the cell, selection, index, split, map or cached object it belongs to, or None.

    Only names that `keys.digest` gives count: a folder of the user's may be called cells too.
    """
    kind, *rest = key.split("/")
    depth = len(rest) if kind in CACHES else _DEPTH.get(kind)
    if not depth or len(rest) < depth:
        return None
    if not _DIGEST.fullmatch(rest[depth - 1].removesuffix(".parquet")):
        return None
    return "/".join([kind, *rest[:depth]])


def says_done(part: str) -> str:
    """Return the object of a part that is written last: while it is there, the part is whole."""
    kind, _, name = part.partition("/")
    match kind:
        case "cells":
            return keys.cell_predictions(name)
        case "selections":
            return keys.selection_picks(name)
        case keys.INDEXES:
            return keys.index_info(part)
        case _:
            return part
