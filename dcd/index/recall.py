"""Measure what lists and codes cost: recall@50 against exact search, while the rows pass by."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.quantizers import Codec, nearest_lists
from dcd.tables.vectors import embedding_matrix
from dcd.threads import one_blas_thread

RECALL_K = 50
# Of a label and of true vectors or of codes: so many rows seen, and of each held-out image the
# nearest of them, as the bytes of arrays of (queries, RECALL_K).
_FINDINGS = pa.schema(
    [
        ("label", pa.string()),
        ("is_coded", pa.bool_()),
        ("n_rows", pa.int64()),
        ("distances", pa.binary()),
        ("ids", pa.binary()),
        ("lists", pa.binary()),
    ]
)


class Judge:
    """Finds the true neighbours of held-out images, and those that the codes would give.

    queries: by label, rows of schemas.clustered that no list and no code was trained on.
    """

    def __init__(self, queries: Mapping[str, pa.Table], codec: Codec | None):
        self._codec = codec
        self._cases = {label: _Case(rows) for label, rows in queries.items() if rows.num_rows}

    def take(self, label: str, number: int, rows: pa.Table) -> None:
        """Take rows of one label and list, float16."""
        case = self._cases.get(label)
        if case is None:
            return
        vectors = embedding_matrix(rows)
        at = pc.fill_null(pc.index_in(rows["image_id"], value_set=case.image_ids), -1)
        itself = at.to_numpy()[None, :] == np.arange(len(case.image_ids))[:, None]
        ids = np.arange(case.n_rows, case.n_rows + len(vectors))
        case.n_rows += len(vectors)
        with one_blas_thread():  # workers may have more or fewer than this process
            case.exact.take(case.vectors, vectors, itself, ids, number)
            if self._codec is not None:
                decoded = self._codec.decode(self._codec.encode(vectors))
                case.coded.take(case.vectors, decoded.astype(np.float16), itself, ids, number)

    def findings(self) -> pa.Table:
        """Return what was found so far: _FINDINGS."""
        rows = [
            (label, is_coded, case.n_rows, *nearest.as_bytes())
            for label, case in sorted(self._cases.items())
            for is_coded, nearest in ((False, case.exact), (True, case.coded))
            if case.n_rows
        ]
        columns = zip(*rows, strict=True) if rows else [[] for _ in _FINDINGS]
        return pa.table([list(column) for column in columns], schema=_FINDINGS)

    def add(self, findings: pa.Table) -> None:
        """Add what another judge of the same queries found in the rows that come next."""
        for row in findings.to_pylist():
            case = self._cases[row["label"]]
            nearest = case.coded if row["is_coded"] else case.exact
            nearest.add(row["distances"], row["ids"], row["lists"], case.n_rows)
            if row["is_coded"]:  # the second row of a label
                case.n_rows += row["n_rows"]

    def code_recall(self) -> float | None:
        """Return the share of the true neighbours among those by the codes; None without codes."""
        if self._codec is None:
            return None
        shares = [
            len(np.intersect1d(true[true >= 0], found)) / max(1, (true >= 0).sum())
            for case in self._cases.values()
            for true, found in zip(case.exact.ids, case.coded.ids, strict=True)
        ]
        return round(float(np.mean(shares)), 4) if shares else None

    def list_recall(self, label: str, centroids: np.ndarray) -> dict[int, float]:
        """Return the share of the true neighbours in the lists probed, by the number of these."""
        case = self._cases[label]
        n_lists = len(centroids)
        order = nearest_lists(case.vectors, centroids, n_lists)
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(n_lists)[None, :], axis=1)
        there = case.exact.ids >= 0
        places = np.take_along_axis(place, np.where(there, case.exact.lists, 0), axis=1)[there]
        probes = [*(2**n for n in range(n_lists.bit_length()) if 2**n < n_lists), n_lists]
        return {n: round(float((places < n).mean()), 4) for n in probes}

    def n_queries(self, label: str | None = None) -> int:
        cases = self._cases.values() if label is None else [self._cases[label]]
        return sum(len(case.image_ids) for case in cases)


class _Case:
    def __init__(self, rows: pa.Table):
        self.image_ids = rows["image_id"].combine_chunks()
        self.vectors = embedding_matrix(rows)
        self.n_rows = 0
        self.exact, self.coded = _Nearest(len(rows)), _Nearest(len(rows))


class _Nearest:
    """The nearest rows so far, by squared distance less |q|²; -1 where there are none yet."""

    def __init__(self, n_queries: int):
        self.distances = np.full((n_queries, RECALL_K), np.inf, np.float32)
        self.ids = np.full((n_queries, RECALL_K), -1)
        self.lists = np.full((n_queries, RECALL_K), -1)

    def take(
        self,
        queries: np.ndarray,
        vectors: np.ndarray,
        itself: np.ndarray,
        ids: np.ndarray,
        number: int,
    ) -> None:
        vectors = vectors.astype(np.float32)
        near = np.einsum("nd,nd->n", vectors, vectors) - 2 * (queries @ vectors.T)
        near[itself] = np.inf
        n = len(queries)
        self._keep_lowest(near, np.tile(ids, (n, 1)), np.full((n, len(ids)), number))

    def as_bytes(self) -> tuple[bytes, bytes, bytes]:
        return self.distances.tobytes(), self.ids.tobytes(), self.lists.tobytes()

    def add(self, distances: bytes, ids: bytes, lists: bytes, n_before: int) -> None:
        """Add what was found among rows that come after n_before others; as `as_bytes` gives it."""
        shape = self.distances.shape
        found = np.frombuffer(ids, self.ids.dtype).reshape(shape)
        self._keep_lowest(
            np.frombuffer(distances, self.distances.dtype).reshape(shape),
            np.where(found < 0, found, found + n_before),
            np.frombuffer(lists, self.lists.dtype).reshape(shape),
        )

    def _keep_lowest(self, distances: np.ndarray, ids: np.ndarray, lists: np.ndarray) -> None:
        """Of equally near rows those that came first: so the rows may come in pieces."""
        joined = np.concatenate([self.distances, distances], axis=1)
        all_ids = np.concatenate([self.ids, ids], axis=1)
        all_lists = np.concatenate([self.lists, lists], axis=1)
        nearest = np.argpartition(joined, RECALL_K - 1, axis=1)[:, :RECALL_K]
        last = np.take_along_axis(joined, nearest, axis=1).max(axis=1)
        n_as_near = (joined <= last[:, None]).sum(axis=1)
        for query in np.flatnonzero(n_as_near > RECALL_K):
            there = np.flatnonzero(joined[query] <= last[query])
            order = np.lexsort((all_ids[query, there], joined[query, there]))
            nearest[query] = there[order[:RECALL_K]]
        self.distances = np.take_along_axis(joined, nearest, axis=1)
        self.ids = np.take_along_axis(all_ids, nearest, axis=1)
        self.lists = np.take_along_axis(all_lists, nearest, axis=1)
        self.ids[np.isinf(self.distances)] = -1
