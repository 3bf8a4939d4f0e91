"""Ways to find the k nearest in-label pool images of every failure, measured by one harness.

Each runs in a process of its own. Cold: the files are out of the page cache. Warm: the median of
some more calls in the same process.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.synthetic_pool import ENCODER, PoolSize
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix

Ids = dict[str, list[str]]  # by failure: image ids, nearest first

_FAISS_OVERFETCH = 10  # neighbours over all labels, for every one wanted in the label


@dataclass(frozen=True)
class Case:
    """What every method is asked, and where the pool is. index_id: of our index."""

    folder: str
    size: PoolSize
    failures: str
    index_id: str
    k: int
    repeats: int

    @property
    def store(self) -> Store:
        return Store(f"{self.folder}/store")

    @property
    def shards(self) -> list[str]:
        """Paths of the embedded shards, as they were before any clustering."""
        keys_found = self.store.keys_under(f"embeddings/{self.size.name}/{ENCODER}")
        return [self.store.path(key) for key in keys_found]


@dataclass(frozen=True)
class Measured:
    """What one method took. bytes_read: through system calls, in the cold call."""

    cold_s: float
    warm_s: float
    peak_rss_bytes: int
    bytes_read: int
    found: Ids


def ours(case: Case) -> Measured:
    """dcd.search over the index, from opening the store to the ranked table."""
    from dcd.index.info import index_info
    from dcd.index.search import in_label_neighbors

    nothing_blocked = pa.table(
        {"content_hash": pa.array([], schemas.CONTENT_HASH), "reason": pa.array([], pa.string())}
    )

    def search() -> Ids:
        store = case.store
        index = index_info(store, case.size.name, ENCODER, case.index_id)
        failures = pq.read_table(case.failures)
        found = in_label_neighbors(store, index, failures, nothing_blocked, case.k)
        return _by_failure(found)

    prefix = keys.index(case.size.name, ENCODER, case.index_id)
    return _measure(case, search, [case.store.path(key) for key in case.store.keys_under(prefix)])


def faiss_flat(case: Case) -> Measured:
    """Every vector of the pool in memory (float16) and scanned by faiss; then the label filter."""
    import faiss

    failures = pq.read_table(case.failures)
    queries = embedding_matrix(failures)
    wanted = failures["label"].to_pylist()
    pool: list[tuple[np.ndarray, pa.ChunkedArray, pa.ChunkedArray]] = []

    def search() -> Ids:
        if not pool:
            for path in case.shards:
                table = pq.read_table(path, columns=["image_id", "weak_label", "embedding"])
                halves = table["embedding"].combine_chunks().flatten().to_numpy()
                vectors = halves.reshape(-1, case.size.dim)
                pool.append((vectors, table["image_id"], table["weak_label"]))
        n_fetched = case.k * _FAISS_OVERFETCH
        best = faiss.ResultHeap(len(queries), n_fetched)
        start = 0
        for vectors, _, _ in pool:
            distances, rows = faiss.knn(queries, vectors.astype(np.float32), n_fetched)
            best.add_result(distances, rows + start)
            start += len(vectors)
        best.finalize()
        labels = pa.chunked_array([chunk for _, _, part in pool for chunk in part.chunks])
        ids = pa.chunked_array([chunk for _, part, _ in pool for chunk in part.chunks])
        rows = pa.array(best.I.ravel())
        shape = best.I.shape
        label_of = np.array(labels.take(rows).to_pylist(), object).reshape(shape)
        id_of = np.array(ids.take(rows).to_pylist(), object).reshape(shape)
        return {
            failure: id_of[n][label_of[n] == wanted[n]][: case.k].tolist()
            for n, failure in enumerate(failures["image_id"].to_pylist())
        }

    return _measure(case, search, case.shards)


def duckdb_join(case: Case) -> Measured:
    """A DuckDB join on the label over the embedded shards as they are, without an index."""
    import duckdb

    query = f"""
        SELECT failure, image_id FROM (
            SELECT failures.image_id AS failure, pool.image_id,
                   array_distance(failures.vector, pool.embedding::FLOAT[{case.size.dim}]) AS d
            FROM read_parquet($shards) pool JOIN failures ON pool.weak_label = failures.label
        ) QUALIFY row_number() OVER (PARTITION BY failure ORDER BY d, image_id) <= {case.k}
        ORDER BY failure, d, image_id
    """  # noqa: S608

    def search() -> Ids:
        failures = pq.read_table(case.failures)
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(embedding_matrix(failures).ravel()), case.size.dim
        )
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false")
        connection.register(
            "failures", failures.select(["image_id", "label"]).append_column("vector", vectors)
        )
        found = connection.sql(query, params={"shards": case.shards}).to_arrow_table()
        return _grouped(found["failure"].to_pylist(), found["image_id"].to_pylist())

    return _measure(case, search, case.shards)


def lancedb_exact(case: Case) -> Measured:
    """LanceDB, a label index, and an exact search with the filter before it."""
    return _lancedb(case, exact=True)


def lancedb_indexed(case: Case) -> Measured:
    """LanceDB with its default vector index (IVF_PQ) and a label index."""
    return _lancedb(case, exact=False)


METHODS: dict[str, Callable[[Case], Measured]] = {
    "ours": ours,
    "faiss_flat": faiss_flat,
    "duckdb_join": duckdb_join,
    "lancedb_exact": lancedb_exact,
    "lancedb_indexed": lancedb_indexed,
}


def make_lance_table(case: Case, indexed: bool) -> None:
    """The pool as a LanceDB table with its indexes, unless it is there."""
    import lancedb  # pyright: ignore[reportMissingImports]

    folder = _lance_folder(case, indexed)
    if folder.exists():
        return
    connection = lancedb.connect(str(folder) + ".part")
    schema = pq.read_schema(case.shards[0])
    plain = pa.schema([schema.field(name) for name in ("image_id", "weak_label", "embedding")])

    def batches():
        for path in case.shards:
            yield from pq.read_table(path, columns=plain.names).cast(plain).to_batches()

    table = connection.create_table("pool", batches(), schema=plain.remove_metadata())
    table.create_scalar_index("weak_label", index_type="BITMAP")
    if indexed:
        table.create_index(metric="l2", vector_column_name="embedding")
    os.rename(str(folder) + ".part", folder)


def _lance_folder(case: Case, indexed: bool) -> Path:
    return Path(case.folder) / f"lance-{case.size.name}-{'indexed' if indexed else 'flat'}"


def _lancedb(case: Case, exact: bool) -> Measured:
    import lancedb  # pyright: ignore[reportMissingImports]

    folder = _lance_folder(case, indexed=not exact)

    def search() -> Ids:
        failures = pq.read_table(case.failures)
        table = lancedb.connect(str(folder)).open_table("pool")
        found: Ids = {}
        vectors = embedding_matrix(failures)
        rows = zip(
            failures["image_id"].to_pylist(), failures["label"].to_pylist(), vectors, strict=True
        )
        for failure, label, vector in rows:
            query = table.search(vector, vector_column_name="embedding").distance_type("l2")
            query = query.where(f"weak_label = '{label}'", prefilter=True).select(["image_id"])
            if exact:
                query = query.bypass_vector_index()
            found[failure] = query.limit(case.k).to_arrow()["image_id"].to_pylist()
        return found

    return _measure(case, search, [str(path) for path in folder.rglob("*") if path.is_file()])


def _measure(case: Case, search: Callable[[], Ids], files: list[str]) -> Measured:
    evict(files)
    before = bytes_read()
    cold_s, found = _timed(search)
    n_bytes = bytes_read() - before
    warm_s = statistics.median(_timed(search)[0] for _ in range(case.repeats))
    return Measured(cold_s, warm_s, peak_rss_bytes(), n_bytes, found)


def _timed(search: Callable[[], Ids]) -> tuple[float, Ids]:
    start = time.perf_counter()
    found = search()
    return time.perf_counter() - start, found


def evict(files: list[str]) -> None:
    """Put files out of the page cache, as far as the system follows the advice."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read() -> int:
    """Bytes that this process has read through system calls."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def peak_rss_bytes() -> int:
    """High-water mark of this process; getrusage would count the parent before exec too."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _by_failure(neighbors: pa.Table) -> Ids:
    kept = neighbors.filter(pc.field("kept"))
    return _grouped(kept["error_image_id"].to_pylist(), kept["image_id"].to_pylist())


def _grouped(failures: list[str], ids: list[str]) -> Ids:
    found: Ids = {}
    for failure, image_id in zip(failures, ids, strict=True):
        found.setdefault(failure, []).append(image_id)
    return found
