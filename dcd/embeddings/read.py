"""Find the embedded shards of a pool and read them, as an index takes them in."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from dcd.errors import DataError, EncoderMismatch
from dcd.store import Store, keys
from dcd.store.requests import (
    FOUND,
    METADATA_READ,
    REQUESTS_AT_ONCE,
    Requests,
    column_requests,
    footer_requests,
)
from dcd.tables import schemas
from dcd.tables.vectors import why_not_finite
from dcd.threads import cores, taken_ahead

_READ_BATCH_ROWS = 8192
_MAX_READERS = 4  # more wait for the one that takes the rows
SHARD_FOUND = FOUND + METADATA_READ  # what `find_embedded` sends for a shard


@dataclass(frozen=True)
class ShardEntry:
    """A published shard. `identity` changes whenever its rows may have changed."""

    name: str
    key: str
    dim: int
    identity: str
    n_embedded: int


def find_embedded(
    store: Store, pool: str, encoder_id: str, names: Sequence[str]
) -> list[ShardEntry]:
    """Find the embedded shards of these names, by name; no rows are read.

    Raises DataError if there are none or one is not embedded, EncoderMismatch if another encoder
    made one of them.
    """
    if not names:
        raise DataError(f"pool {pool}: it has no shards; expected at least one to index")
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        found = list(requests.map(lambda n: _find(store, pool, encoder_id, n), sorted(names)))
    for shard in found:
        if shard.dim != found[0].dim:
            raise EncoderMismatch(
                f"{store.uri(shard.key)}: vectors of {shard.dim} numbers, those of shard "
                f"{found[0].name} have {found[0].dim}; embed the pool with one encoder"
            )
    return found


def read_rows(
    store: Store, shards: Sequence[ShardEntry], max_memory_bytes: int
) -> Generator[pa.RecordBatch, None, None]:
    """Yield `schemas.embeddings` plus `shard`, a few thousand rows at a time.

    Several shards are read at once, as many as there are cores for and as fit, compressed, in an
    eighth of max_memory_bytes, but one at least; their rows come in turn, always in the same order.
    Raises ObjectUnreadable if rows are missing or vectors are not finite.
    """
    largest = max((2 * shard.dim * shard.n_embedded for shard in shards), default=0)
    fit = max_memory_bytes // 8 // max(1, largest)
    n = max(1, min(cores(), fit, len(shards), _MAX_READERS))
    yield from taken_ahead([_rows_of(store, shards[start::n]) for start in range(n)])


def _rows_of(store: Store, shards: Sequence[ShardEntry]) -> Generator[pa.RecordBatch, None, None]:
    for shard in shards:
        schema = schemas.embeddings(shard.dim)
        uri = store.uri(shard.key)
        n_rows = 0
        for batch in _batches(store, shard, schema.names):
            rows = schemas.conform(pa.table(batch), schema, uri)
            if why := why_not_finite(rows):
                raise store.damaged(shard.key, why)
            n_rows += rows.num_rows
            yield from (
                rows.append_column("shard", pa.repeat(shard.name, rows.num_rows))
                .combine_chunks()
                .to_batches()
            )
        if n_rows != shard.n_embedded:
            announced = f"{n_rows} rows, its metadata announces {shard.n_embedded}"
            raise store.damaged(shard.key, announced)


def row_requests(n_bytes: int) -> Requests:
    """Count what `read_rows` or `read_labels` sends for a shard with so many bytes to read."""
    return FOUND + footer_requests(0) + column_requests(n_bytes)


def identity_of(code_format: int | str, etag: str) -> str:
    """Return text that changes whenever the rows of a shard may have changed."""
    return f"{code_format}:{etag}"


def read_labels(store: Store, shards: Sequence[ShardEntry]) -> Iterator[pa.RecordBatch]:
    """Yield weak_label of all rows, without anything else."""
    for shard in shards:
        yield from _batches(store, shard, ["weak_label"])


def read_ids(store: Store, shards: Sequence[ShardEntry]) -> Iterator[pa.RecordBatch]:
    """Yield weak_label, image_id, content_hash and shard of all rows, without vectors."""
    for shard in shards:
        for batch in _batches(store, shard, ["weak_label", "image_id", "content_hash"]):
            yield batch.append_column("shard", pa.repeat(shard.name, batch.num_rows))


def _find(store: Store, pool: str, encoder_id: str, name: str) -> ShardEntry:
    key = keys.embeddings(pool, encoder_id, name)
    if not store.exists(key):
        raise DataError(f"{store.uri(key)}: shard {name} is not embedded; embed the pool first")
    schema = store.read_schema(key)
    metadata = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
    found = metadata.get("encoder_id")
    if found != encoder_id:
        raise EncoderMismatch(
            f"{store.uri(key)}: made by encoder {found}, expected {encoder_id}; embed it again"
        )
    identity = identity_of(metadata["code_format"], metadata["source_etag"])
    dim = schema.field("embedding").type.list_size
    return ShardEntry(name, key, dim, identity, int(metadata["n_embedded"]))


def _batches(store: Store, shard: ShardEntry, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with store.open_parquet(shard.key) as file:
        yield from file.batches(_READ_BATCH_ROWS, columns)
