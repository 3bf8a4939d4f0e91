"""The leak check: no image of train, test, debug_val or debug_heldout among the picks.

Equal content is found by hash and never picked. A copy that was scaled, cropped or compressed
again has another hash; it is found by its embedding, which such changes hardly move.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import schemas
from dcd.errors import LeakError
from dcd.projection import principal_directions

_BLOCK_BYTES = 2**26  # of similarities at once
_DIRECTIONS = 128
_FIT_ROWS = 10_000  # of which the directions are learnt
_ROUNDING = 1e-4  # of a squared distance in float32
_LISTED = 10


def near_copies(
    rows: pa.Table, guarded: Mapping[str, pa.Table], max_distance: float
) -> list[str | None]:
    """For each of N rows the split of a guarded image closer than `max_distance`, else None.

    rows and the tables of `guarded` (by split) have an embedding column. The distance is l2 between
    vectors brought to length 1, so 0…2; max_distance 0 finds nothing.
    """
    found: list[str | None] = [None] * rows.num_rows
    if max_distance <= 0 or rows.num_rows == 0:
        return found
    units = schemas.unit_vectors(rows)
    for split, table in guarded.items():
        if table.num_rows:
            for i in _near(units, schemas.unit_vectors(table), max_distance):
                found[i] = found[i] or split
    return found


def _near(units: np.ndarray, others: np.ndarray, max_distance: float) -> list[int]:
    """Which of units (N, D) are closer than `max_distance` to one of others (M, D).

    Distances never grow by projection, so that a few directions rule most pairs out.
    """
    _, directions = principal_directions(others[:_FIT_ROWS], _DIRECTIONS)
    shadows, of_others = units @ directions, others @ directions
    half_norms = np.einsum("md,md->m", of_others, of_others) / 2
    block = max(1, _BLOCK_BYTES // (4 * len(others)))
    found = []
    for start in range(0, len(units), block):
        of_block = shadows[start : start + block]
        nearest = (half_norms - of_block @ of_others.T).min(axis=1)
        squared = 2 * nearest + np.einsum("nd,nd->n", of_block, of_block)
        maybe = start + np.flatnonzero(squared < max_distance**2 + _ROUNDING)
        closest = (units[maybe] @ others.T).max(axis=1, initial=-1)
        found += maybe[closest > 1 - max_distance**2 / 2].tolist()
    return found


def check_leaks(picks: pa.Table, guarded: Mapping[str, pa.Table], max_distance: float) -> None:
    """Raises LeakError, listing them, if a pick is an image of a guarded split or a near copy.

    picks and the tables of `guarded` have image_id, content_hash and embedding.
    """
    leaks = []
    copies = near_copies(picks, guarded, max_distance)
    ids = picks["image_id"].to_pylist()
    for split, table in guarded.items():
        same = pc.is_in(picks["content_hash"], value_set=table["content_hash"]).to_pylist()
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
