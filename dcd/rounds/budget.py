"""Share out the images of a round: which of the candidates are taken. Pure.

Classes get their shares by largest remainder (Hamilton's method: Balinski & Young 1982, "Fair
representation").
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import GoalConfig, Sharing


def images_of_round(goal: GoalConfig, n_taken: int, number: int) -> int:
    """How many images the round of that number (1…) may take, n_taken being taken before."""
    left = max(0, goal.budget - n_taken)
    if goal.images_per_round is not None:
        return min(left, goal.images_per_round)
    return -(-left // max(1, goal.rounds - number + 1))


def largest_remainder(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """Share n out in proportion to sizes; what is left after rounding down goes by the remainder.

    Of equal remainders the larger size comes first, then the name. Nothing where all sizes are 0.
    """
    total = sum(sizes.values())
    if total == 0:
        return dict.fromkeys(sizes, 0)
    shares = {name: n * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(n * sizes[name] % total), -sizes[name], name))
    for name in by_remainder[: n - sum(shares.values())]:
        shares[name] += 1
    return shares


def take(candidates: pa.Table, n: int, sharing: Sharing) -> pa.Array:
    """Choose at most n contents among candidates: those that failures in turn ask for first.

    candidates: error_image_id, label, rank, distance, content_hash; one row for each failure that
    asks. Every failure's first candidate comes before any failure's second, the nearest first.
    by_class: a class gets its share of the failures that ask; what it cannot use stays unspent.
    """
    if candidates.num_rows == 0 or n <= 0:
        return pa.array([], candidates.schema.field("content_hash").type)
    in_turn = _in_turn(candidates)
    contents, labels = (in_turn[name].to_pylist() for name in ("content_hash", "label"))
    if sharing == "nearest":
        left = dict.fromkeys(set(labels), n)
    else:
        asking = candidates.group_by(["label", "error_image_id"]).aggregate([])["label"]
        counts = pc.value_counts(asking).to_pylist()
        left = largest_remainder({one["values"]: one["counts"] for one in counts}, n)
    taken: dict[bytes, None] = {}
    for content, label in zip(contents, labels, strict=True):
        if content not in taken and left[label] > 0 and len(taken) < n:
            taken[content] = None
            left[label] -= 1
    return pa.array(list(taken), candidates.schema.field("content_hash").type)


def _in_turn(candidates: pa.Table) -> pa.Table:
    """By the place among a failure's own candidates, then by distance."""
    rows = candidates.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])
    failure = rows["error_image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.flatnonzero(np.r_[True, failure[1:] != failure[:-1]])
    sizes = np.diff(np.r_[first, len(failure)])
    rows = rows.append_column("turn", pa.array(np.arange(len(failure)) - np.repeat(first, sizes)))
    order = ("turn", "distance", "error_image_id")
    return rows.sort_by([(name, "ascending") for name in order])
