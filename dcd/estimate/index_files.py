"""Reckon what an index will take in the store, file by file, from a sample of its rows.

Vectors are stored as they are, so most of it is arithmetic; ids, directory, sample and trained
numbers are compressed, so tables like them are written to memory and weighed. Pure.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcd.config import IndexConfig
from dcd.estimate.planned_runs import planned_runs
from dcd.estimate.synthetic_rows import imagined, table_bytes
from dcd.index.info import IndexInfo, info_text
from dcd.index.layout import (
    CODEC_ROWS,
    NO_LIST,
    centroid_table,
    codec_table,
    lists_of_label,
    sample_rows,
)
from dcd.index.parts import WRITING, write_sample
from dcd.index.plan import Sources
from dcd.index.quantizers import code_bytes_of, n_parameters
from dcd.index.work import IndexFiles
from dcd.store import keys
from dcd.store.checksums import sealed
from dcd.store.parquet import as_parquet
from dcd.tables.rows import with_column
from dcd.tables.vectors import embedding_matrix

_WEIGHED_ROWS, _WEIGHED_BYTES = 2**14, 2**23
_ROWS_A_LIST = 64
_LIST_INFO_BYTES = 500  # of a label with lists in index.json


def index_files(
    rows: pa.Table,
    counts: Mapping[str, int],
    sources: Sources,
    config: IndexConfig,
    base: IndexInfo | None = None,
    base_directory: pa.Table | None = None,
) -> IndexFiles:
    """Reckon the files of an index.

    rows: schemas.clustered(D), a sample, at least one. counts: rows by label that are written.

    base, base_directory: of the index that these rows are appended to: its directory and sample
    are written again with theirs, its vectors are not.
    """
    dim = rows.schema.field("embedding").type.list_size
    n_rows = sum(counts.values())
    stored = code_bytes_of(config.storage, dim, config.pq_bytes)
    lists = (
        {label: lists_of_label(n, dim, config) for label, n in counts.items()}
        if base is None
        else {label: info.n_lists for label, info in base.lists.items() if label in counts}
    )
    prefix = keys.index("pool", "encoder", sources.index_id) if base is None else base.prefix
    runs = planned_runs(_by_list(counts, lists), stored, prefix)
    every_run = runs if base_directory is None else pa.concat_tables([base_directory, runs])
    n_sampled = min(sample_rows(config, dim), n_rows + (0 if base is None else base.n_rows))
    return IndexFiles(
        vectors=_vector_files(rows, runs, stored),
        layout=_layout_files(rows, lists, n_rows, config) if base is None else (),
        directory=len(as_parquet(every_run)),
        sample=table_bytes(rows, n_sampled, _as_sample),
        sources=len(json.dumps(sources.document())),
        info=_info_bytes(counts, lists, n_rows, dim, config, prefix, base),
        runs=every_run,
        lists=lists,
        dim=dim,
    )


def _by_list(counts: Mapping[str, int], lists: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """A label's lists are taken to be of one size."""
    by_list = {}
    for label, n_rows in counts.items():
        n_lists = lists.get(label, 0)
        if n_lists == 0:
            by_list[label, NO_LIST] = n_rows
        for number in range(n_lists):
            by_list[label, number] = n_rows // n_lists + (number < n_rows % n_lists)
    return by_list


def _vector_files(rows: pa.Table, runs: pa.Table, stored_bytes: int) -> tuple[int, ...]:
    """Two files of rows like these are written; what one row group adds holds for all others."""
    groups = runs.group_by(["part", "row_group"], use_threads=False).aggregate([("n_rows", "sum")])
    sizes = groups["n_rows_sum"].to_numpy()
    if len(sizes) == 0:
        return ()
    n = max(1, int(min(np.median(sizes), _WEIGHED_ROWS, _WEIGHED_BYTES // stored_bytes)))
    ordered = imagined(rows, max(2 * n, rows.num_rows)).sort_by(
        [("weak_label", "ascending"), ("image_id", "ascending")]
    )
    middle = ordered.num_rows // 2
    first, second = (
        _with_blobs(ordered.slice(start, n), stored_bytes) for start in (middle - n, middle)
    )
    schema = first.schema
    one, two = _file_bytes([first], schema), _file_bytes([first, second], schema)
    group_bytes, overhead = two - one, _group_overhead(first.slice(0, 1).combine_chunks())
    fixed = max(0, one - group_bytes)
    a_row = (group_bytes - overhead) / n
    per_part = groups.group_by("part", use_threads=False).aggregate(
        [("n_rows_sum", "sum"), ("n_rows_sum", "count")]
    )
    return tuple(
        round(fixed + n_rows * a_row + n_groups * overhead)
        for n_rows, n_groups in zip(
            per_part["n_rows_sum_sum"].to_pylist(),
            per_part["n_rows_sum_count"].to_pylist(),
            strict=True,
        )
    )


def _group_overhead(row: pa.Table) -> int:
    """What a row group takes beside its rows: pages' headers, and its place in the footer."""
    schema = row.schema
    return _file_bytes([row, row], schema) - _file_bytes([row], schema) - row.nbytes


def _with_blobs(rows: pa.Table, stored_bytes: int) -> pa.Table:
    """With bytes in place of vectors, zeros: they are not compressed."""
    blobs = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(stored_bytes), len(rows), [None, pa.py_buffer(bytes(stored_bytes * len(rows)))]
    )
    return with_column(rows, "embedding", blobs, pa.field("code", blobs.type, nullable=False))


def _as_sample(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    write_sample(rows, sink)
    return sealed(".parquet", sink.getvalue().to_pybytes())


def _file_bytes(groups: Sequence[pa.Table], schema: pa.Schema) -> int:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **WRITING) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=len(group))
    return len(sink.getvalue())


def _layout_files(
    rows: pa.Table, lists: Mapping[str, int], n_rows: int, config: IndexConfig
) -> tuple[int, ...]:
    """Trained numbers are means of vectors: means of so many of these stand for them."""
    files = []
    dim = rows.schema.field("embedding").type.list_size
    if any(lists.values()):
        centres = {label: _means(rows, n, _ROWS_A_LIST) for label, n in lists.items() if n}
        files.append(len(as_parquet(centroid_table(centres))))
    if config.storage != "float16":
        n_means = n_parameters(config.storage, dim) // dim
        trained = _means(rows, n_means, max(1, min(n_rows, CODEC_ROWS) // n_means))
        files.append(len(as_parquet(codec_table(trained.ravel()))))
    return tuple(files)


def _means(rows: pa.Table, n: int, of: int) -> np.ndarray:
    """n means of so many vectors: (n, D) float32"""
    vectors = embedding_matrix(rows)
    rng = np.random.default_rng(0)
    sums = np.zeros((n, vectors.shape[1]), np.float32)
    for _ in range(of):
        sums += vectors[rng.integers(0, len(vectors), n)]
    return sums / np.float32(of)


def _info_bytes(
    counts: Mapping[str, int],
    lists: Mapping[str, int],
    n_rows: int,
    dim: int,
    config: IndexConfig,
    prefix: str,
    base: IndexInfo | None,
) -> int:
    """index.json, whose numbers have as many digits as those of an index of these labels."""
    _, pool, encoder_id, index_id = prefix.split("/")
    said = "00 labels are scanned, exactly: the largest, 'a label', has 0000 rows of 0000 bytes."
    info = IndexInfo(
        pool, encoder_id, index_id, dim, n_rows, n_rows, 0, 0, 0,
        counts if base is None else {**base.label_counts, **counts},
        (index_id,) if base is None else (*base.segments, index_id),
        config.storage,
        explanation=said,
    )  # fmt: skip
    return len(info_text(info)) + _LIST_INFO_BYTES * sum(n > 0 for n in lists.values())
