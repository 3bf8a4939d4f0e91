"""The nearest pool images of a failure among those of its label, searched through the index.

Data-Centric Debugging (Singla et al., arXiv 2211.09859, section 3): for every failure the images
of its own label that lie nearest in l2 distance between embeddings.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.index.distances import distance_bounds, distances, doubles
from dcd.index.info import IndexInfo
from dcd.index.layout import read_centroids
from dcd.index.quantizers import Codec, nearest_lists
from dcd.index.read import codec_of, read_directory
from dcd.index.row_groups import read_pieces
from dcd.store import Store
from dcd.tables import schemas
from dcd.tables.rows import with_column
from dcd.tables.vectors import why_not_finite
from dcd.threads import one_blas_thread

_QUERY_BLOCK = 256  # failures of a label searched at once: bounds memory
_SEARCHERS = 4  # labels searched at once
_SLACK = 8  # so many times k pairs a failure are held before the far ones are let go
READ_COLUMNS = ("image_id", "content_hash", "embedding")


def in_label_neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    k: int,
    exact: bool = False,
) -> pa.Table:
    """Find the k nearest pool images of every failure within its label: schemas.NEIGHBORS.

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
    listed = set() if exact else set(index.lists) & set(failures["label"].to_pylist())
    search = _Search(
        store,
        codec_of(store, index),
        read_directory(store, index, failures["label"]),
        read_centroids(store, index.layout_prefix) if listed else {},
        {label: index.lists[label].n_probed for label in listed},
        _reasons(blocked),
        min(k, max(1, index.n_rows)),  # room for more is never filled
    )
    # Labels run side by side; BLAS threads on top of that only wait for each other.
    blas = one_blas_thread() if len(set(failures["label"].to_pylist())) > 1 else nullcontext()
    with ThreadPoolExecutor(_SEARCHERS) as searchers, blas:
        found = list(searchers.map(search.nearest, _questions(failures)))
    neighbors = pa.concat_tables([schemas.NEIGHBORS.empty_table(), *found])
    return neighbors.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])


def first_kept(neighbors: pa.Table, k: int) -> pa.Table:
    """Keep each failure's rows up to its k-th that is kept, and the refused ones between them.

    neighbors: error_image_id, kept; sorted by failure, the nearest first.
    """
    kept = neighbors["kept"].to_numpy().astype(np.int64)
    starts, n_rows = _groups(neighbors["error_image_id"])
    before = np.cumsum(kept) - kept
    before -= np.repeat(before[starts], n_rows)
    return neighbors.filter(pa.array(before < k))


@dataclass(frozen=True)
class _Question:
    """Failures of one label. ids and rows of `vectors` (Q, D) float64 belong together."""

    label: str
    image_ids: pa.Array
    vectors: np.ndarray


def _questions(failures: pa.Table) -> Iterator[_Question]:
    for label in sorted(set(failures["label"].to_pylist())):
        of_label = failures.filter(pc.equal(failures["label"], label)).combine_chunks()
        for start in range(0, of_label.num_rows, _QUERY_BLOCK):
            block = of_label.slice(start, _QUERY_BLOCK)
            yield _Question(label, block["image_id"].chunk(0), doubles(block))


@dataclass(frozen=True)
class _Search:
    """Where rows are read, and what they are searched for.

    centroids: of the labels with lists, (n_lists, D) float32; n_probed: of those that are searched
    through them. reasons: content_hash, reason.
    """

    store: Store
    codec: Codec | None
    directory: pa.Table
    centroids: Mapping[str, np.ndarray]
    n_probed: Mapping[str, int]
    reasons: pa.Table
    k: int

    def nearest(self, question: _Question) -> pa.Table:
        """Find the k nearest unblocked rows of every failure: schemas.NEIGHBORS."""
        runs = self.directory.filter(pc.equal(self.directory["label"], question.label))
        if question.label in self.n_probed:
            return self._through_lists(question, runs)
        return _nearest(question, self._pieces(runs), self.k)[0]

    def _pieces(self, runs: pa.Table) -> Iterator[pa.Table]:
        """Read rows, each with the reason for which it is blocked, if it is."""
        for piece in read_pieces(self.store, runs, READ_COLUMNS, self.codec):
            yield piece.append_column("reason", _reason_of(piece["content_hash"], self.reasons))

    def _through_lists(self, question: _Question, runs: pa.Table) -> pa.Table:
        """Search for each failure the lists nearest to it; more if these hold too few."""
        centroids = self.centroids[question.label]
        n_lists = len(centroids)
        order = nearest_lists(question.vectors.astype(np.float32), centroids, n_lists)
        n_probed = np.full(len(order), min(self.n_probed[question.label], n_lists))
        while True:
            probed = np.zeros(order.shape, bool)
            np.put_along_axis(probed, order, np.arange(n_lists) < n_probed[:, None], axis=1)
            wanted = pa.array(np.flatnonzero(probed.any(axis=0)).astype(np.int32))
            pieces = self._pieces(runs.filter(pc.is_in(runs["list"], value_set=wanted)))
            found, is_full = _nearest(question, pieces, self.k, probed)
            if (is_full | (n_probed >= n_lists)).all():
                return found
            n_probed = np.where(is_full, n_probed, 2 * n_probed)


def _nearest(
    question: _Question, pieces: Iterable[pa.Table], k: int, probed: np.ndarray | None = None
) -> tuple[pa.Table, np.ndarray]:
    """Find the k nearest unblocked rows of every failure, and the blocked ones between.

    Squared distances come from one matrix product, |x|² - 2xq + |q|², with a bound on its rounding
    error; pairs that may be near are measured exactly. probed: (Q, lists) bool, which failure is
    searched in which lists; None: in all rows. Also returns (Q,) bool: whether there are k
    unblocked ones.
    """
    n_queries = len(question.vectors)
    best = np.full((n_queries, k), np.inf)  # the k smallest upper bounds so far
    found = [schemas.NEIGHBORS.empty_table()]
    n_found = 0
    for piece in pieces:
        vectors = doubles(piece)
        lower, upper = distance_bounds(question.vectors, vectors)
        upper[:, piece["reason"].is_valid().to_numpy()] = np.inf
        if probed is not None:
            elsewhere = ~probed[:, piece["list"].to_numpy()]
            lower[elsewhere] = upper[elsewhere] = np.inf
        best = np.partition(np.concatenate([best, upper], axis=1), k - 1, axis=1)[:, :k]
        query, row = np.nonzero((lower <= best[:, -1:]) & np.isfinite(lower))
        distance = distances(question.vectors, vectors, query, row)
        found.append(_as_neighbors(question, piece, query, row, distance))
        n_found += len(query)
        if n_found > _SLACK * n_queries * k:
            found = [_ranked(found, k)]
            n_found = found[0].num_rows
    return _ranked(found, k), np.isfinite(best[:, -1])


def _as_neighbors(
    question: _Question, piece: pa.Table, query: np.ndarray, row: np.ndarray, distance: np.ndarray
) -> pa.Table:
    """schemas.NEIGHBORS of pairs, without ranks: failure `query` and row `row` of the piece."""
    n, rows = len(query), pa.array(row)
    reason = piece["reason"].take(rows)
    columns = {
        "error_image_id": question.image_ids.take(pa.array(query)),
        "image_id": piece["image_id"].take(rows),
        "label": pa.repeat(question.label, n),
        "distance": distance,
        "rank": np.zeros(n, np.int32),
        "label_agreement": pa.nulls(n, pa.float32()),
        "kept": reason.is_null(),
        "reason": reason,
    }
    return pa.table(columns, schema=schemas.NEIGHBORS)


def _ranked(found: list[pa.Table], k: int) -> pa.Table:
    """The nearest of the neighbours found, equal distances in the order of image_id."""
    order = [(name, "ascending") for name in ("error_image_id", "distance", "image_id")]
    nearest = first_kept(pa.concat_tables(found).sort_by(order), k)
    starts, n_rows = _groups(nearest["error_image_id"])
    rank = np.arange(nearest.num_rows) - np.repeat(starts, n_rows) + 1
    return with_column(nearest, "rank", pa.array(rank.astype(np.int32)))


def _groups(sorted_ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal ids begin, and their lengths."""
    codes = sorted_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return starts, np.diff(np.append(starts, len(codes)))


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
    if why := why_not_finite(failures):
        raise DataError(f"failures: {why}; embed them again")
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
