"""The nearest pool images of a failure among those of its label, searched through the index.

Data-Centric Debugging (Singla et al., arXiv 2211.09859, section 3): for every failure the images
of its own label that lie nearest in l2 distance between embeddings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.index.info import IndexInfo
from dcd.index.layout import read_centroids
from dcd.index.quantizers import nearest_lists
from dcd.index.read import codec_of, read_directory
from dcd.index.row_groups import read_pieces
from dcd.store import Store
from dcd.tables import schemas
from dcd.tables.sql import connect, rank_neighbors
from dcd.tables.vectors import not_finite
from dcd.threads import one_blas_thread

_QUERY_BLOCK = 256  # failures of a label searched at once: bounds memory
_SEARCHERS = 4  # labels searched at once
_MAX_RANKED_BYTES = 2**26  # of candidates ranked in one query
READ_COLUMNS = ("image_id", "content_hash", "embedding")


def in_label_neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    k: int,
    exact: bool = False,
) -> pa.Table:
    """The k nearest pool images of every failure within its label: schemas.NEIGHBORS.

    failures: schemas.labelled_features(D). blocked: content_hash, reason; images of the pool that
    must not be taken. Rows are sorted by (error_image_id, rank). Each failure gets k rows with
    kept = true, fewer only where its label has no more; blocked images met on the way stand
    between them with their reason, and ranks count all. Distances are l2, summed in float64 and
    rounded to float32; equal ones are ordered by image_id.

    A label that the index keeps in lists is searched through the few that lie nearest to each
    failure, unless `exact`: its neighbours are those of index.lists[label].recall. Where blocked
    images leave fewer than k, more lists are searched, in the end all. Everything else is exact, up
    to the storage of the index.

    Reads the rows of the failures' labels only. Raises LabelError for labels without pool images,
    EncoderMismatch for vectors of another encoder, DataError for vectors that are not finite.
    """
    _check(index, failures)
    reasons = _reasons(blocked)
    directory = read_directory(store, index, failures["label"])
    questions = _questions(failures)
    codec = codec_of(store, index)
    listed = set() if exact else set(index.lists) & set(failures["label"].to_pylist())
    centroids = read_centroids(store, index.layout_prefix) if listed else {}

    def search(question: _Question) -> _Found:
        runs = directory.filter(pc.equal(directory["label"], question.label))

        def read(runs: pa.Table) -> Iterator[pa.Table]:
            return read_pieces(store, runs, READ_COLUMNS, codec)

        if question.label not in listed:
            return _nearest(question, read(runs), reasons, k)[0]
        lists = centroids[question.label]
        n_probed = index.lists[question.label].n_probed
        return _through_lists(question, runs, read, lists, n_probed, reasons, k)

    parts = [schemas.NEIGHBORS.empty_table()]
    # Labels run side by side; BLAS threads on top of that only wait for each other.
    blas = one_blas_thread() if len(pc.unique(directory["label"])) > 1 else nullcontext()
    with connect() as connection, ThreadPoolExecutor(_SEARCHERS) as searchers, blas:
        for found in _together(searchers.map(search, questions)):
            ranked = rank_neighbors(connection, found.queries, found.candidates, found.pairs, k)
            parts.append(schemas.conform(ranked, schemas.NEIGHBORS, "neighbors"))
    neighbors = pa.concat_tables(parts)
    return neighbors.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])


@dataclass(frozen=True)
class _Question:
    """Failures of one label. ids and rows of `vectors` (Q, D) float64 belong together."""

    label: str
    image_ids: pa.Array
    vectors: np.ndarray


@dataclass(frozen=True)
class _Found:
    """Rows that can be among the k nearest of some failures: what `rank_neighbors` takes."""

    queries: pa.Table
    candidates: pa.Table
    pairs: pa.Table


def _questions(failures: pa.Table) -> Iterator[_Question]:
    for label in sorted(set(failures["label"].to_pylist())):
        of_label = failures.filter(pc.equal(failures["label"], label)).combine_chunks()
        for start in range(0, of_label.num_rows, _QUERY_BLOCK):
            block = of_label.slice(start, _QUERY_BLOCK)
            yield _Question(label, block["image_id"].chunk(0), _doubles(block))


def _through_lists(
    question: _Question,
    runs: pa.Table,
    read: Callable[[pa.Table], Iterator[pa.Table]],
    centroids: np.ndarray,
    n_probed: int,
    reasons: pa.Table,
    k: int,
) -> _Found:
    """As `_nearest`, for each failure in the lists nearest to it; in more if these hold too few."""
    n_lists = len(centroids)
    order = nearest_lists(question.vectors.astype(np.float32), centroids, n_lists)
    n_probed_by = np.full(len(order), min(n_probed, n_lists))
    while True:
        probed = np.zeros(order.shape, bool)
        np.put_along_axis(probed, order, np.arange(n_lists) < n_probed_by[:, None], axis=1)
        wanted = pa.array(np.flatnonzero(probed.any(axis=0)).astype(np.int32))
        probed_runs = runs.filter(pc.is_in(runs["list"], value_set=wanted))
        full = np.zeros(len(order), bool)
        if probed_runs.num_rows:  # a list may be empty
            found, full = _nearest(question, read(probed_runs), reasons, k, probed)
            if (full | (n_probed_by >= n_lists)).all():
                return found
        n_probed_by = np.where(full, n_probed_by, 2 * n_probed_by)


def _nearest(
    question: _Question,
    pieces: Iterable[pa.Table],
    reasons: pa.Table,
    k: int,
    probed: np.ndarray | None = None,
) -> tuple[_Found, np.ndarray]:
    """The k nearest unblocked rows of every failure, the blocked ones between, and few more.

    Squared distances come from one matrix product, |x|² - 2xq + |q|², with a bound on its rounding
    error: no row is left out that the exact distance, which decides in the end, could bring in.
    probed: (Q, lists) bool, which failure is searched in which lists; None: in all rows. Also
    returns (Q,) bool: whether there are k unblocked ones.
    """
    best = np.full((len(question.vectors), k), np.inf)  # the k smallest upper bounds so far
    near_rows, near_pairs, near_bounds = [], [], []
    n_rows = 0
    for piece in pieces:
        reason = _reason_of(piece["content_hash"], reasons)
        lower, upper = _distance_bounds(question.vectors, _doubles(piece))
        upper[:, pc.is_valid(reason).to_numpy(zero_copy_only=False)] = np.inf
        if probed is not None:
            elsewhere = ~probed[:, piece["list"].to_numpy()]
            lower[elsewhere] = upper[elsewhere] = np.inf
        best = np.partition(np.concatenate([best, upper], axis=1), k - 1, axis=1)[:, :k]
        query, row = np.nonzero((lower <= best[:, -1:]) & np.isfinite(lower))
        near, position = np.unique(row, return_inverse=True)
        near_rows.append(piece.append_column("reason", reason).take(pa.array(near)))
        near_pairs.append(np.stack([query, position + n_rows]))
        near_bounds.append(lower[query, row])
        n_rows += len(near)
    full = np.isfinite(best[:, -1])
    query, row = np.concatenate(near_pairs, axis=1)
    still_near = np.concatenate(near_bounds) <= best[query, -1]
    query, row = query[still_near], row[still_near]
    near, position = np.unique(row, return_inverse=True)
    rows = pa.concat_tables(near_rows).take(pa.array(near))
    found = _Found(
        pa.table(
            {
                "failure": np.arange(len(question.vectors)),
                "image_id": question.image_ids,
                "embedding": _as_lists(question.vectors),
            }
        ),
        pa.table(
            {
                "candidate": np.arange(len(near)),
                "image_id": rows["image_id"],
                "label": pa.repeat(question.label, len(near)),
                "reason": rows["reason"],
                "embedding": _as_lists(_doubles(rows)),
            }
        ),
        pa.table({"failure": query, "candidate": position}),
    )
    return found, full


def _together(found: Iterable[_Found]) -> Iterator[_Found]:
    """Join what was found for several labels: one query for many is much faster than many."""
    joined: list[_Found] = []
    for one in found:
        joined.append(one)
        if sum(each.candidates.nbytes for each in joined) > _MAX_RANKED_BYTES:
            yield _join(joined)
            joined = []
    if joined:
        yield _join(joined)


def _join(found: Sequence[_Found]) -> _Found:
    queries, candidates, pairs = [], [], []
    n_queries = n_candidates = 0
    for one in found:
        queries.append(_shifted(one.queries, failure=n_queries))
        candidates.append(_shifted(one.candidates, candidate=n_candidates))
        pairs.append(_shifted(one.pairs, failure=n_queries, candidate=n_candidates))
        n_queries += one.queries.num_rows
        n_candidates += one.candidates.num_rows
    return _Found(pa.concat_tables(queries), pa.concat_tables(candidates), pa.concat_tables(pairs))


def _shifted(table: pa.Table, **by: int) -> pa.Table:
    for name, n in by.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pc.add(table[name], n))
    return table


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
    bad = not_finite(failures)
    if len(bad):
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


def _doubles(table: pa.Table) -> np.ndarray:
    """The embedding column: (N, D) float64."""
    dim = table.schema.field("embedding").type.list_size
    halves = table["embedding"].combine_chunks().flatten().to_numpy()
    return halves.reshape(-1, dim).astype(np.float64)


def _as_lists(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
