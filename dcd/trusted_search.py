"""The in-label search for picks whose label can be trusted, and a trusted sample of the pool.

A filter after the search would leave a failure with fewer than k picks. Here every refused image is
replaced by the next nearest one of the label, down to a stated depth; what is missing even then is
counted (`fill_rate`).
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import schemas
from dcd.index import IndexInfo, vectors_of
from dcd.search import in_label_neighbors
from dcd.store import Store
from dcd.trust import Trust

UNTRUSTED = "label not trusted"
TOO_DEEP = "too far down"
_REFUSED = pa.schema([("content_hash", schemas.CONTENT_HASH), ("reason", pa.string())])
_AHEAD = 2  # so many times k images are looked at in the first search, which saves others

# What is wrong with each of some rows (image_id, label or weak_label, content_hash, embedding);
# None: nothing. `agreement` (N,) is reported where the objector knows it.
Objections = tuple[list[str | None], np.ndarray | None]
Objector = Callable[[pa.Table], Objections]


def objections(trust: Trust, min_agreement: float, min_trust: float) -> Objections:
    """Objects to rows whose label too few neighbours share, or is too likely to be wrong."""
    good = (trust.agreement >= min_agreement) & (trust.probability >= min_trust)
    return [None if ok else UNTRUSTED for ok in good], trust.agreement


def trusted_neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    k: int,
    object_to: Objector,
    max_depth: int,
) -> pa.Table:
    """The k nearest pool images of every failure within its label that nothing speaks against.

    As `in_label_neighbors` (schemas.NEIGHBORS), and with the label agreement of every image looked
    at. Refused images stand between the kept ones, with their reason; those beyond rank
    max_depth · k are not kept. An image of several labels is refused in all of them.
    """
    refused = blocked.select(_REFUSED.names).cast(_REFUSED)
    seen: dict[str, float | None] = {}
    width = _AHEAD * k
    while True:
        neighbors = in_label_neighbors(store, index, failures, refused, width)
        within = pc.less_equal(neighbors["rank"], max_depth * k)
        kept = neighbors.filter(pc.and_(neighbors["kept"], within))
        fresh = kept.filter(pc.invert(pc.is_in(kept["image_id"], value_set=_ids(seen))))
        if fresh.num_rows == 0 and width == k:
            return _described(neighbors, seen, max_depth * k)
        if fresh.num_rows:
            rows = vectors_of(store, index, fresh["image_id"], pc.unique(fresh["label"]))
            reasons, agreement = object_to(rows)
            known = [None] * rows.num_rows if agreement is None else agreement.tolist()
            seen |= dict(zip(rows["image_id"].to_pylist(), known, strict=True))
            refused = pa.concat_tables([refused, _with_reasons(rows, reasons)])
        width = k


def general_sample(
    sample: pa.Table, blocked: pa.Table, classes: list[str], n: int, object_to: Objector
) -> pa.Table:
    """Of n images of a uniform pool sample those that nothing speaks against, by image_id.

    sample: schemas.clustered(D). Blocked images and labels outside `classes` are left out before
    the draw. Returns image_id, label, shard, content_hash, label_agreement.
    """
    free = pc.and_(
        pc.invert(pc.is_in(sample["content_hash"], value_set=blocked["content_hash"])),
        pc.is_in(sample["weak_label"], value_set=pa.array(classes, pa.string())),
    )
    rows = sample.filter(free)
    drawn = np.random.default_rng(0).permutation(rows.num_rows)[:n]
    rows = rows.take(pa.array(np.sort(drawn)))
    reasons, agreement = object_to(rows)
    rows = rows.rename_columns({"weak_label": "label"})
    rows = rows.select(["image_id", "label", "shard", "content_hash"])
    known = pa.nulls(rows.num_rows, pa.float32()) if agreement is None else pa.array(agreement)
    rows = rows.append_column("label_agreement", known)
    return rows.filter(pa.array([r is None for r in reasons], pa.bool_())).sort_by("image_id")


def fill_rate(neighbors: pa.Table, n_failures: int, k: int) -> float:
    """Kept neighbours over the k · n_failures that were asked for, in 0…1."""
    wanted = k * n_failures
    return pc.sum(neighbors["kept"]).as_py() / wanted if wanted and neighbors.num_rows else 0.0


def _described(neighbors: pa.Table, seen: dict[str, float | None], depth: int) -> pa.Table:
    """With label_agreement filled in, and nothing kept beyond a rank."""
    at = neighbors.schema.get_field_index
    found = pa.array([seen.get(i) for i in neighbors["image_id"].to_pylist()], pa.float32())
    table = neighbors.set_column(at("label_agreement"), "label_agreement", found)
    deep = pc.and_(neighbors["kept"], pc.greater(neighbors["rank"], depth))
    kept = pc.and_(neighbors["kept"], pc.invert(deep))
    table = table.set_column(at("kept"), "kept", kept)
    reason = pc.if_else(deep, pa.scalar(TOO_DEEP), neighbors["reason"])
    table = table.set_column(at("reason"), "reason", reason)
    return schemas.conform(table, schemas.NEIGHBORS, "neighbors")


def _ids(seen: dict[str, float | None]) -> pa.Array:
    return pa.array(list(seen), pa.string())


def _with_reasons(rows: pa.Table, reasons: list[str | None]) -> pa.Table:
    column = pa.array(reasons, pa.string())
    return pa.table([rows["content_hash"], column], schema=_REFUSED).filter(column.is_valid())
