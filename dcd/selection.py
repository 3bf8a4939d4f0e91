"""Which pool images to add for the failures: in-label nearest neighbours, and random draws.

Data-Centric Debugging (Singla et al., arXiv 2211.09859, section 3): for every failure the images
of its own label that lie nearest in l2 distance between embeddings; their union is debug-train.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import schemas
from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.index import IndexInfo, read_labels
from dcd.sql import collect_picks, connect, rank_neighbors
from dcd.store import Store

_QUERY_BLOCK = 256  # failures of a label searched at once: bounds memory
_READ_COLUMNS = ("image_id", "content_hash", "embedding")


def in_label_neighbors(
    store: Store, index: IndexInfo, failures: pa.Table, blocked: pa.Table, k: int
) -> pa.Table:
    """The exact k nearest pool images of every failure within its label: schemas.NEIGHBORS.

    failures: schemas.labelled_features(D). blocked: content_hash, reason; images of the pool that
    must not be taken. Rows are sorted by (error_image_id, rank). Each failure gets k rows with
    kept = true, fewer only where its label has no more; blocked images met on the way stand
    between them with their reason, and ranks count all. Distances are l2, summed in float64 and
    rounded to float32; equal ones are ordered by image_id.

    Reads the rows of the failures' labels only. Raises LabelError for labels without pool images,
    EncoderMismatch for vectors of another encoder, DataError for vectors that are not finite.
    """
    _check(index, failures)
    reasons = _reasons(blocked)
    parts = [schemas.NEIGHBORS.empty_table()]
    with connect() as connection:
        for queries in _blocks_by_label(failures):
            label = queries["label"][0].as_py()
            pieces = (
                rows for _, rows in read_labels(store, index, _READ_COLUMNS, pa.array([label]))
            )
            found = _nearest(schemas.vectors(queries), pieces, reasons, k)
            candidates = found.rows.append_column(
                "label", pa.repeat(label, found.rows.num_rows)
            ).append_column("candidate", pa.array(range(found.rows.num_rows), pa.int64()))
            asked = queries.select(["image_id", "embedding"]).append_column(
                "failure", pa.array(range(queries.num_rows), pa.int64())
            )
            parts.append(
                rank_neighbors(
                    connection, _in_double(asked), _in_double(candidates), found.pairs, k
                )
            )
    neighbors = pa.concat_tables(
        schemas.conform(part, schemas.NEIGHBORS, "neighbors") for part in parts
    )
    return neighbors.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])


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


@dataclass(frozen=True)
class _Found:
    """Rows that can be among the k nearest, and for which failure.

    rows: image_id, content_hash, embedding, reason. pairs: failure, candidate (row numbers).
    """

    rows: pa.Table
    pairs: pa.Table


def _nearest(queries: np.ndarray, pieces: Iterable[pa.Table], reasons: pa.Table, k: int) -> _Found:
    """A superset of the k nearest unblocked rows of every query, and of the blocked ones between.

    queries: (Q, D) float32. Squared distances come from one matrix product, |x|² - 2xq + |q|², with
    a bound on its rounding error: no row is left out that the exact distance could bring in. What
    is left is small, and the exact distance decides on it.
    """
    xq = queries.astype(np.float64)
    best = np.full((len(xq), k), np.inf)  # the k smallest upper bounds so far
    kept_rows, kept_pairs, lowers = [], [], []
    n_rows = 0
    for piece in pieces:
        lower, upper = _distance_bounds(xq, schemas.vectors(piece).astype(np.float64))
        reason = _reason_of(piece["content_hash"], reasons)
        upper[:, reason.is_valid().to_numpy(zero_copy_only=False)] = np.inf
        best = np.partition(np.concatenate([best, upper], axis=1), k - 1, axis=1)[:, :k]
        near = lower <= best[:, -1:]
        wanted = np.flatnonzero(near.any(axis=0))
        query, row = np.nonzero(near[:, wanted])
        kept_rows.append(piece.append_column("reason", reason).take(pa.array(wanted)))
        kept_pairs.append(np.stack([query, row + n_rows]))
        lowers.append(lower[query, wanted[row]])
        n_rows += len(wanted)
    pairs, lower = np.concatenate(kept_pairs, axis=1), np.concatenate(lowers)
    failure, candidate = pairs[:, lower <= best[pairs[0], -1]]
    return _Found(
        pa.concat_tables(kept_rows), pa.table({"failure": failure, "candidate": candidate})
    )


def _distance_bounds(xq: np.ndarray, xb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (Q, N) of the squared l2 distances between xq (Q, D) and xb (N, D), float64.

    A sum of D products is off by at most D·eps·(sum of magnitudes) in whatever order it is added
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); the factor 4 and
    the 8 terms more are slack. Distances are compared after rounding to float32, hence its eps.
    """
    q_norms = np.einsum("qd,qd->q", xq, xq)[:, None]
    b_norms = np.einsum("nd,nd->n", xb, xb)[None, :]
    squared = q_norms + b_norms - 2 * (xq @ xb.T)
    error = 4 * (xq.shape[1] + 8) * np.finfo(np.float64).eps * (q_norms + b_norms)
    error += 4 * np.finfo(np.float32).eps * np.abs(squared)
    return squared - error, squared + error


def _check(index: IndexInfo, failures: pa.Table) -> None:
    found = (failures.schema.metadata or {}).get(b"encoder_id")
    if found is not None and found.decode() != index.encoder_id:
        raise EncoderMismatch(
            f"failures: embedded by {found.decode()}, the index {index.index_id} of pool "
            f"{index.pool} by {index.encoder_id}; embed both with one encoder"
        )
    dim = failures.schema.field("embedding").type.list_size
    if dim != index.dim:
        raise EncoderMismatch(
            f"failures: vectors of {dim} numbers, the index {index.index_id} of pool {index.pool} "
            f"has {index.dim}; embed both with one encoder"
        )
    finite = np.isfinite(schemas.vectors(failures)).all(axis=1)
    if not finite.all():
        bad = failures["image_id"].filter(pa.array(~finite))
        raise DataError(
            f"failures: {len(bad)} vectors hold NaN or infinite numbers, such as that of image "
            f"{bad[0].as_py()!r}; embed them again"
        )
    absent = sorted(set(failures["label"].to_pylist()) - set(index.label_counts))
    if absent:
        raise LabelError(
            f"failures: the pool {index.pool} has no image of the labels {absent}; its labels are "
            f"such as {sorted(index.label_counts)[:5]}; map the labels or widen the pool"
        )


def _blocks_by_label(failures: pa.Table) -> Iterator[pa.Table]:
    for label in sorted(set(failures["label"].to_pylist())):
        of_label = failures.filter(pc.equal(failures["label"], label))
        for start in range(0, of_label.num_rows, _QUERY_BLOCK):
            yield of_label.slice(start, _QUERY_BLOCK)


def _reasons(blocked: pa.Table) -> pa.Table:
    """One row a content: (content_hash, reason), several reasons joined."""
    reasons: dict[bytes, set[str]] = {}
    for row in blocked.select(["content_hash", "reason"]).to_pylist():
        reasons.setdefault(row["content_hash"], set()).add(row["reason"])
    return pa.table(
        {
            "content_hash": pa.array(reasons, schemas.CONTENT_HASH),
            "reason": pa.array([", ".join(sorted(r)) for r in reasons.values()], pa.string()),
        }
    )


def _reason_of(hashes: pa.ChunkedArray, reasons: pa.Table) -> pa.Array:
    at = pc.index_in(hashes, value_set=reasons["content_hash"].combine_chunks())
    return reasons["reason"].combine_chunks().take(at.combine_chunks())


def _in_double(table: pa.Table) -> pa.Table:
    vectors = schemas.vectors(table)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.astype(np.float64).ravel()), vectors.shape[1]
    )
    at = table.schema.get_field_index("embedding")
    return table.set_column(at, "embedding", column)
