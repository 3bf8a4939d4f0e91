"""Which pool images to add for the failures: the union of their neighbours, and random draws.

Data-Centric Debugging (Singla et al., arXiv 2211.09859, section 3): the union of the failures'
neighbours is debug-train; the random draws are what it is compared with.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import schemas
from dcd.errors import DataError
from dcd.sql import collect_picks


def debug_train(neighbors: pa.Table, rows: pa.Table, shards: pa.Table) -> pa.Table:
    """The union of the kept neighbours with their provenance: schemas.DEBUG_TRAIN, by image_id.

    neighbors: schemas.NEIGHBORS. rows: image_id, label, shard, content_hash of at least the picks.
    shards: schemas.SHARDS. One row a content: of ids that share it the first one stands for all,
    and of several labels the one whose failure is nearest. min_distance is over all failures that
    picked it, n_queries their number.
    """
    return schemas.conform(collect_picks(neighbors, rows, shards), schemas.DEBUG_TRAIN, "picks")


def random_draw(rows: pa.Table, n: int, rng: np.random.Generator) -> pa.Table:
    """`n` rows drawn without replacement, in the order of `rows`. DataError if there are fewer."""
    if n > rows.num_rows:
        raise DataError(f"random draw: {n} images asked for, the pool has only {rows.num_rows}")
    return rows.take(pa.array(np.sort(rng.choice(rows.num_rows, n, replace=False)), pa.int64()))


def random_in_label(
    rows: pa.Table, per_label: Mapping[str, int], rng: np.random.Generator
) -> pa.Table:
    """For every label as many of its rows as `per_label` says, drawn without replacement.

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
