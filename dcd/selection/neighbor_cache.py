"""Read neighbours that were searched before instead of searching them again.

A failure's neighbours do not depend on other failures, so they are kept for every group of them
(the error sample's shards, the registry's batches): new failures cost their own search only.
The one exception are pool images that are failures themselves, which no failure may have as a
neighbour: the rows say which content was met, and a group that they changed for is searched again.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows
from dcd.store import Store, keys
from dcd.tables import schemas

OWN_REASON = "in error_sample"  # the one reason to block that changes whenever failures arrive

# Raised whenever the same failures, index and blocked content would give other rows.
_FORMAT = 2
_CACHED = schemas.NEIGHBORS.append(pa.field("content_hash", schemas.CONTENT_HASH, nullable=False))
_QUESTION = ["image_id", "label", "content_hash", "embedding"]

# Failures (schemas.labelled_features) to their neighbours (schemas.NEIGHBORS), each failure's rows
# being the same whichever others are asked with it.
Search = Callable[[pa.Table], pa.Table]


def cached_neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    depends_on: Sequence[object],
    search: Search,
) -> pa.Table:
    """Return what `search` finds, with groups that were searched before read from the store.

    failures: schemas.labelled_features(D) and `shard`, which names the group. depends_on: what
    else decides about the rows beside index, failures and blocked images, such as k.
    """
    own = blocked.filter(pc.equal(blocked["reason"], OWN_REASON))["content_hash"]
    fixed = blocked.filter(pc.not_equal(blocked["reason"], OWN_REASON))
    fixed = fixed.select(["content_hash", "reason"]).sort_by("content_hash")
    settings = [
        _FORMAT,
        index.pool,
        index.encoder_id,
        index.index_id,
        *depends_on,
        keys.table_digest(fixed),
    ]
    known: list[pa.Table] = []
    fresh: list[tuple[str, pa.Table]] = []
    for shard in sorted(set(failures["shard"].to_pylist())):
        group = failures.filter(pc.equal(failures["shard"], shard))
        key = keys.neighbors(keys.digest(settings, keys.table_digest(group.select(_QUESTION))))
        found = _read(store, key, own)
        if found is None:
            fresh.append((key, group))
        else:
            known.append(found)
    return _sorted([*known, *_search(store, index, fresh, search)])


def _read(store: Store, key: str, own: pa.ChunkedArray) -> pa.Table | None:
    """A group's rows, if they are there and still what a search would give."""
    if not store.exists(key):
        return None
    rows = schemas.conform(store.read_table(key), _CACHED, store.uri(key))
    is_own = pc.is_in(rows["content_hash"], value_set=own)
    was_own = pc.fill_null(pc.match_substring(rows["reason"], OWN_REASON), False)
    return rows.select(schemas.NEIGHBORS.names) if is_own.equals(was_own) else None


def _search(
    store: Store,
    index: IndexInfo,
    groups: Sequence[tuple[str, pa.Table]],
    search: Search,
) -> list[pa.Table]:
    """Search all groups together, and publish each by itself."""
    if not groups:
        return []
    every = pa.concat_tables([group for _, group in groups])
    found = search(every)
    rows = pool_rows(store, index, pc.unique(every["label"]))
    at = pc.index_in(found["image_id"], value_set=rows["image_id"].combine_chunks())
    hashed = found.append_column("content_hash", rows["content_hash"].take(at))
    hashed = schemas.conform(hashed, _CACHED, "neighbors")
    for key, group in groups:
        of_group = pc.is_in(hashed["error_image_id"], value_set=group["image_id"])
        store.write_table(key, hashed.filter(of_group))
    return [found]


def _sorted(tables: Sequence[pa.Table]) -> pa.Table:
    every = pa.concat_tables([schemas.NEIGHBORS.empty_table(), *map(_bare, tables)])
    return every.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])


def _bare(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None).cast(schemas.NEIGHBORS)
