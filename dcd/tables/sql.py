"""Query tables with DuckDB: the only module that holds SQL, as named constants with parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

# Images that the table does not name are counted by the caller: they need no vector.
_RELABELLED_BY_IMAGE = """
WITH given AS (
    SELECT image_id, label, row_number() OVER (PARTITION BY image_id ORDER BY label) AS nth
    FROM (SELECT DISTINCT image_id, label FROM labels)
)
SELECT image_id, given.label AS weak_label, shard, content_hash,
       CASE WHEN given.label IS NOT NULL THEN embedding END AS embedding,
       coalesce(nth > 1, FALSE) AS extra_label
FROM rows LEFT JOIN given USING (image_id)
"""
_RELABELLED_BY_WEAK_LABEL = """
WITH given AS (
    SELECT weak_label AS found, label,
           row_number() OVER (PARTITION BY weak_label ORDER BY label) AS nth
    FROM (SELECT DISTINCT weak_label, label FROM labels)
)
SELECT image_id, given.label AS weak_label, shard, content_hash,
       CASE WHEN given.label IS NOT NULL THEN embedding END AS embedding,
       coalesce(nth > 1, FALSE) AS extra_label
FROM rows LEFT JOIN given ON rows.weak_label = given.found
"""
_MAPPED = """
SELECT DISTINCT image_id, map.label
FROM labels JOIN map ON labels.label = map.weak_label
ORDER BY image_id, map.label
"""

_NAMED = "SELECT rows.* FROM rows SEMI JOIN ids USING (image_id) ORDER BY shard, image_id"
_UNNAMED = "SELECT rows.* FROM rows ANTI JOIN ids USING (image_id) ORDER BY shard, image_id"

# Double precision, rounded once to float32: the value no longer depends on the order in which the
# squares are added, so equally distant images tie on every machine and in every batch.
_DEBUG_TRAIN = """
WITH picks AS (
    SELECT rows.content_hash, label, image_id, rows.shard, error_image_id, distance,
           label_agreement
    FROM neighbors JOIN rows USING (image_id, label)
    WHERE kept
), contents AS (
    SELECT content_hash, label, arg_min(shard, image_id) AS shard, min(image_id) AS image_id,
           min(distance) AS min_distance, count(DISTINCT error_image_id) AS n_queries,
           arg_min(label_agreement, image_id) AS label_agreement
    FROM picks
    GROUP BY content_hash, label
    QUALIFY row_number() OVER (PARTITION BY content_hash ORDER BY min_distance, label) = 1
)
SELECT image_id, label, shard, uri, min_distance, n_queries::INTEGER AS n_queries,
       'targeted' AS role, label_agreement, $weight::FLOAT AS weight
FROM contents LEFT JOIN shards USING (shard)
ORDER BY image_id, label
"""


_SHOWS_PROGRESS = "SELECT current_setting('enable_progress_bar')"


@contextmanager
def connect(
    memory_limit_bytes: int | None = None, spill_to: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a fresh in-memory database that can reach no file, no network and no Python variable.

    With a memory limit, sorts beyond it go to the folder `spill_to`.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": False,
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit_bytes is not None:
        settings["memory_limit"] = f"{memory_limit_bytes // 2**20}MiB"
        settings["preserve_insertion_order"] = False
    if spill_to is not None:
        settings["temp_directory"] = str(spill_to)
    connection = duckdb.connect(":memory:", config=settings)
    try:
        _silence(connection)
        yield connection
    finally:
        connection.close()


def _silence(connection: duckdb.DuckDBPyConnection) -> None:
    """Switch the progress bar off, which would go to stdout.

    In a notebook without ipywidgets it is off already, and DuckDB refuses every change of it.
    """
    if connection.execute(_SHOWS_PROGRESS).fetchall() == [(True,)]:
        connection.execute("SET enable_progress_bar = false")


def map_labels(labels: pa.Table, label_map: pa.Table) -> pa.Table:
    """Give every image all classes that its label stands for: image_id, label.

    labels: image_id, label. label_map: weak_label, label, many to many.
    """
    with connect() as connection:
        connection.register("labels", labels)
        connection.register("map", label_map)
        return connection.sql(_MAPPED).to_arrow_table()


def relabelled(
    connection: duckdb.DuckDBPyConnection,
    schema: pa.Schema,
    rows: Iterator[pa.RecordBatch],
    labels: pa.Table,
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    """Yield rows with the labels of a table, in any order, streamed.

    rows: image_id, weak_label, shard, content_hash and embedding, the last two as bytes. labels:
    image_id, label or weak_label, label. An image with several gives a row for each, all but one of
    them marked as extra_label; one without gives a row without label and without embedding.
    """
    connection.register("labels", labels)
    by_image = "image_id" in labels.column_names
    query = _RELABELLED_BY_IMAGE if by_image else _RELABELLED_BY_WEAK_LABEL
    yield from _streamed(connection, query, schema, rows, batch_rows)


def named_rows(
    connection: duckdb.DuckDBPyConnection,
    schema: pa.Schema,
    rows: Iterator[pa.RecordBatch],
    ids: pa.Table,
    batch_rows: int,
    *,
    named: bool = True,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows whose image_id is among `ids`, or is not, by shard and image_id, streamed.

    rows: image_id, shard and others. ids: image_id.
    """
    connection.register("ids", ids)
    query = _NAMED if named else _UNNAMED
    yield from _streamed(connection, query, schema, rows, batch_rows)


def _streamed(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    schema: pa.Schema,
    rows: Iterator[pa.RecordBatch],
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    """The query over `rows`; what reading `rows` raises is raised here, not DuckDB's text of it."""
    failures: list[Exception] = []

    def remembered() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except Exception as err:
            failures.append(err)
            raise

    connection.register("rows", pa.RecordBatchReader.from_batches(schema, remembered()))
    try:
        yield from connection.sql(query).to_arrow_reader(batch_rows)
    except (duckdb.Error, pa.ArrowException, OSError):
        if failures:
            raise failures[0] from None
        raise


def collect_picks(neighbors: pa.Table, rows: pa.Table, shards: pa.Table, weight: float) -> pa.Table:
    """Return the columns of schemas.DEBUG_TRAIN: kept neighbors, one row a content, by image_id."""
    with connect() as connection:
        for name, table in (("neighbors", neighbors), ("rows", rows), ("shards", shards)):
            connection.register(name, table)
        return connection.sql(_DEBUG_TRAIN, params={"weight": weight}).to_arrow_table()
