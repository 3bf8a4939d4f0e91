"""Check for leaks: no image of train, test, debug_val or debug_heldout is among the picks.

Equal content is found by hash and never picked. A copy that was scaled, cropped or compressed
again has another hash; it is found by its embedding, which such changes hardly move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import LeakError
from dcd.tables.near_copies import BLOCK_BYTES, ROUNDING, Shadowed, directions_of, shadowed
from dcd.tables.vectors import unit_vectors
from dcd.threads import one_blas_thread

_LISTED = 10


@dataclass(frozen=True)
class Guard:
    """Images that judge the model, of which no pick may be a copy; prepared for many comparisons.

    max_distance: within which an image is a near copy; 0: none is, and no vectors are prepared.
    directions: (D, d) float32, orthonormal.
    """

    max_distance: float
    directions: np.ndarray
    splits: Mapping[str, Shadowed]
    content: Mapping[str, pa.ChunkedArray]


@one_blas_thread()
def guard(tables: Mapping[str, pa.Table], max_distance: float) -> Guard:
    """Make what guards splits.

    tables: image_id, content_hash, embedding by split; those without rows guard nothing.

    The distance is l2 between vectors brought to length 1, so 0…2.
    """
    full = {split: table for split, table in tables.items() if table.num_rows}
    content = {split: table["content_hash"] for split, table in full.items()}
    if not full or max_distance <= 0:
        return Guard(max_distance, np.empty((0, 0), np.float32), {}, content)
    units = {split: unit_vectors(table) for split, table in full.items()}
    directions = directions_of(max(units.values(), key=len))
    guarded = {split: shadowed(vectors, directions) for split, vectors in units.items()}
    return Guard(max_distance, directions, guarded, content)


@one_blas_thread()
def near_copies(rows: pa.Table, guarded: Guard) -> list[str | None]:
    """Name the split that each of N rows (with an embedding) is a near copy of, else None."""
    found: list[str | None] = [None] * rows.num_rows
    if rows.num_rows == 0 or not guarded.splits:
        return found
    units = unit_vectors(rows)
    shadows = units @ guarded.directions
    norms = np.einsum("nd,nd->n", shadows, shadows)
    for split, of_split in guarded.splits.items():
        block = max(1, BLOCK_BYTES // (4 * len(of_split.units)))
        for start in range(0, len(units), block):
            part = slice(start, start + block)
            nearest = (of_split.half_norms - shadows[part] @ of_split.shadows.T).min(axis=1)
            squared = 2 * nearest + norms[part]
            maybe = start + np.flatnonzero(squared < guarded.max_distance**2 + ROUNDING)
            closest = (units[maybe] @ of_split.units.T).max(axis=1, initial=-1)
            for i in maybe[closest > 1 - guarded.max_distance**2 / 2]:
                found[i] = found[i] or split
    return found


def check_leaks(
    picks: pa.Table, copies: Sequence[str | None], guarded: Mapping[str, pa.ChunkedArray]
) -> None:
    """Raise LeakError, listing them, if a pick is an image of a guarded split or a near copy.

    picks: image_id and content_hash. copies: the split of which each is a near copy, or None.
    guarded: content_hash by split.
    """
    leaks = []
    ids = picks["image_id"].to_pylist()
    for split, content in guarded.items():
        same = pc.is_in(picks["content_hash"], value_set=content).to_pylist()
        leaks += [f"{i} is in {split}" for i, hit in zip(ids, same, strict=True) if hit]
    leaks += [
        f"{i} is nearly an image of {split}" for i, split in zip(ids, copies, strict=True) if split
    ]
    if leaks:
        more = f" and {len(leaks) - _LISTED} more" if len(leaks) > _LISTED else ""
        raise LeakError(
            f"picks: {len(leaks)} of {picks.num_rows} are images that judge the model: "
            f"{'; '.join(leaks[:_LISTED])}{more}; remove them from the pool, or lower "
            "selection.leak_distance if they are other images"
        )
