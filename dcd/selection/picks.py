"""Add pool images for the failures: the union of their neighbours, and random draws.

Data-Centric Debugging (Singla et al., arXiv 2211.09859, section 3): the union of the failures'
neighbours is debug-train; the random draws are what it is compared with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.tables import schemas
from dcd.tables.rows import one_row_a_content, with_column
from dcd.tables.sql import collect_picks


def debug_train(
    neighbors: pa.Table,
    rows: pa.Table,
    shards: pa.Table,
    weight: float = 1.0,
    general: pa.Table | None = None,
    general_weight: float = 1.0,
) -> pa.Table:
    """Return the images to add, with provenance: schemas.DEBUG_TRAIN, by role and image_id.

    First the general sample (`dcd.selection.trusted_search.general_sample`), then the targeted
    picks: the union of the kept neighbours. neighbors: schemas.NEIGHBORS. rows: image_id, label,
    shard, content_hash of at least the picks. shards: schemas.SHARDS. One row a content: of ids
    that share it the first one stands for all, of several labels the one whose failure is nearest,
    and an image in both parts is a targeted one. min_distance is over all failures that picked it,
    n_queries their number.
    """
    targeted = collect_picks(neighbors, rows, shards, weight)
    targeted = schemas.conform(targeted, schemas.DEBUG_TRAIN, "picks")
    if general is None:
        return targeted
    hash_of = rows.filter(pc.is_in(rows["image_id"], value_set=targeted["image_id"]))
    taken = pc.is_in(general["content_hash"], value_set=hash_of["content_hash"])
    rest = one_row_a_content(general.filter(pc.invert(taken)))
    n = rest.num_rows
    at = pc.index_in(rest["shard"], value_set=shards["shard"].combine_chunks())
    added = rest.append_column("uri", shards["uri"].take(at.combine_chunks()))
    added = added.append_column("min_distance", pa.nulls(n, pa.float32()))
    added = added.append_column("n_queries", pa.repeat(pa.scalar(0, pa.int32()), n))
    added = added.append_column("role", pa.repeat("general", n))
    weights = pa.repeat(pa.scalar(general_weight, pa.float32()), n)
    added = added.append_column("weight", weights)
    added = schemas.conform(added, schemas.DEBUG_TRAIN, "general sample")
    return pa.concat_tables([added, targeted])


@dataclass(frozen=True)
class WeightedPicks:
    """Picks (schemas.DEBUG_TRAIN) with their weights, and the weight of an error-sample image."""

    picks: pa.Table
    error_sample_weight: float


def limit_targeted_share(
    picks: pa.Table, n_train: int, n_failures: int, error_sample_weight: float, max_share: float
) -> WeightedPicks:
    """Scale the weights of targeted picks and error sample down to `max_share` of the whole.

    picks: schemas.DEBUG_TRAIN. An image of train weighs 1. Without a limit (1), or below it,
    nothing changes. Many failures, or little else to train on, would outweigh everything that
    keeps the accuracy on test.
    """
    weight = picks["weight"].to_numpy()
    targeted = pc.equal(picks["role"], "targeted").to_numpy()
    aimed = float(weight[targeted].sum(dtype=float)) + n_failures * error_sample_weight
    rest = n_train + float(weight[~targeted].sum(dtype=float))
    if max_share == 1 or aimed <= max_share * (aimed + rest):
        return WeightedPicks(picks, error_sample_weight)
    scale = rest * max_share / (1 - max_share) / aimed
    scaled = pa.array(np.where(targeted, scale * weight, weight).astype(np.float32))
    table = with_column(picks, "weight", scaled)
    return WeightedPicks(table, scale * error_sample_weight)


def targeted_picks(picks: pa.Table) -> pa.Table:
    """Return the rows of schemas.DEBUG_TRAIN that were picked for failures."""
    return picks.filter(pc.equal(picks["role"], "targeted"))


def aimed_picks(picks: pa.Table) -> pa.Table:
    """Return the rows of schemas.DEBUG_TRAIN that are not the general sample."""
    return picks.filter(pc.not_equal(picks["role"], "general"))


def random_draw(rows: pa.Table, n: int, rng: np.random.Generator) -> pa.Table:
    """Draw `n` rows without replacement, in the order of `rows`. DataError if there are fewer."""
    if n > rows.num_rows:
        raise DataError(f"random draw: {n} images asked for, the pool has only {rows.num_rows}")
    return rows.take(pa.array(np.sort(rng.choice(rows.num_rows, n, replace=False)), pa.int64()))


def random_in_label(
    rows: pa.Table, per_label: Mapping[str, int], rng: np.random.Generator
) -> pa.Table:
    """Draw for every label as many of its rows as `per_label` says, without replacement.

    By label. Raises DataError, naming the label, if it has fewer.
    """
    drawn = [rows.slice(0, 0)]
    for label, n in sorted(per_label.items()):
        of_label = rows.filter(pc.equal(rows["label"], label))
        if n > of_label.num_rows:
            raise DataError(
                f"random draw: {n} images of label {label!r} asked for, the pool has only "
                f"{of_label.num_rows}"
            )
        drawn.append(random_draw(of_label, n, rng))
    return pa.concat_tables(drawn)
