"""Order a failure's neighbours by LPIPS, among the candidates that the encoder found.

Data-Centric Debugging (Singla et al., arXiv 2211.09859) compares its encoders with LPIPS (Zhang et
al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018). A pool
does not fit memory as LPIPS sees it, so the encoder proposes and LPIPS decides.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import LpipsConfig
from dcd.errors import ConfigError
from dcd.selection.filters import refuse
from dcd.selection.lpips import Lpips, load_lpips
from dcd.selection.lpips_pairs import pair_distances
from dcd.sources.source import Source, fetch_each
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import with_column

FARTHER = "farther by LPIPS"

# Raised whenever the same pairs and weights would give other distances.
_FORMAT = 1
_PAIRS = ["label", "error_image_id", "image_id"]
_DISTANCES = pa.schema([pa.field("lpips", pa.float32(), nullable=False)])


def open_lpips(config: LpipsConfig, n_failures: int) -> Lpips:
    """Open the weights of a config, for so many failures.

    Raises ConfigError if they are too many, EncoderError as `load_lpips` does.
    """
    n = n_failures * config.candidates
    if n > config.max_comparisons:
        raise ConfigError(
            [
                f"selection.lpips: {n_failures:,} failures with {config.candidates:,} candidates "
                f"each are {n:,} comparisons, more than max_comparisons ({config.max_comparisons:,}"
                "); give fewer candidates or failures, or raise max_comparisons"
            ]
        )
    return load_lpips(config.backbone, config.channel_weights)


def rerank(
    store: Store,
    lpips: Lpips,
    neighbors: pa.Table,
    failures: pa.Table,
    rows: pa.Table,
    failing: Sequence[Source],
    pool: Source,
    n: int,
) -> pa.Table:
    """Keep the n of every failure's neighbours nearest by LPIPS: schemas.RERANKED_NEIGHBORS.

    neighbors: schemas.NEIGHBORS, whose kept rows are the candidates. failures: image_id, shard,
    content_hash, in the sources `failing`. rows: the same columns of at least the candidates, in
    `pool`. Images are read again from their sources; the distances are kept in the store, so that
    another k or another selection with the same candidates reads none.
    """
    pairs = neighbors.filter(neighbors["kept"]).select(_PAIRS)
    hashed = pairs.append_column("failure", _hashes(failures, pairs["error_image_id"]))
    hashed = hashed.append_column("candidate", _hashes(rows, pairs["image_id"]))
    key = keys.lpips(keys.digest("lpips", _FORMAT, lpips.digest, keys.table_digest(hashed)))
    if not store.exists(key):
        distances = pair_distances(
            lpips,
            pairs,
            lambda ids: fetch_each(store, failing, _places(failures, ids)),
            lambda ids: fetch_each(store, [pool], _places(rows, ids)),
        )
        store.write_table(key, pa.table([pa.array(distances)], schema=_DISTANCES))
    known = schemas.conform(store.read_table(key), _DISTANCES, store.uri(key))
    return by_lpips(neighbors, known["lpips"].to_numpy(), n)


def by_lpips(neighbors: pa.Table, distances: np.ndarray, n: int) -> pa.Table:
    """Rank neighbours anew, of which each failure keeps n: schemas.RERANKED_NEIGHBORS.

    distances: float32, of the kept neighbours in their order. rank counts them by LPIPS, equal ones
    in the encoder's order; the refused ones, which were not compared, come behind them in the
    encoder's order. distance stays the encoder's. Rows are sorted by (error_image_id, rank).
    """
    column = np.full(neighbors.num_rows, np.nan, np.float32)
    column[neighbors["kept"].to_numpy(zero_copy_only=False)] = distances
    table = neighbors.append_column("lpips", pa.array(column, from_pandas=True))
    order = [(name, "ascending") for name in ("error_image_id", "lpips", "rank")]  # nulls last
    table = table.sort_by(order).combine_chunks()
    failures = table["error_image_id"].to_numpy(zero_copy_only=False)
    _, first, n_rows = np.unique(failures, return_index=True, return_counts=True)
    rank = (np.arange(table.num_rows) - np.repeat(first, n_rows) + 1).astype(np.int32)
    table = with_column(table, "rank", pa.array(rank))
    table = refuse(table, rank > n, FARTHER)
    return schemas.conform(table, schemas.RERANKED_NEIGHBORS, "neighbors")


def _hashes(images: pa.Table, image_ids: pa.ChunkedArray) -> pa.Array:
    at = pc.index_in(image_ids, value_set=images["image_id"].combine_chunks())
    return images["content_hash"].combine_chunks().take(at.combine_chunks())


def _places(images: pa.Table, image_ids: Sequence[str]) -> pa.Table:
    """image_id and shard of these images, once each: with several labels they have several rows."""
    wanted = pc.is_in(images["image_id"], value_set=pa.array(image_ids, pa.string()))
    return (
        images.filter(wanted)
        .select(["image_id", "shard"])
        .group_by(["image_id", "shard"])
        .aggregate([])
    )
