"""How far the embedding of a source is, and whether what is published is whole."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import pyarrow.compute as pc

from dcd import keys, schemas
from dcd.embedding import ShardStats, published
from dcd.errors import DCDError
from dcd.pool import Shard, shards_from_table
from dcd.store import Store

State = Literal["done", "failed", "missing"]
_REQUESTS_AT_ONCE = 16


@dataclass(frozen=True)
class FailedShard:
    """A shard that could not be embedded, and why."""

    shard: str
    reason: str


@dataclass(frozen=True)
class ShardState:
    """Where one shard stands; `stats` if it is done, `reason` if it failed."""

    shard: Shard
    state: State
    stats: ShardStats | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PoolStatus:
    """Counts over all shards. Rates are None where there is nothing to tell them from."""

    n_shards: int
    n_done: int
    n_failed: int
    n_missing: int
    n_images: int
    n_embedded: int
    n_rejected: int
    images_per_s: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Fault:
    """A published shard that is not whole, and what is wrong with it."""

    shard: str
    message: str


def note_failures(
    store: Store, source_id: str, encoder_id: str, failed: Sequence[FailedShard]
) -> None:
    """Note which shards the latest run could not embed; an empty list clears earlier notes."""
    document = json.dumps([asdict(f) for f in failed], indent=1)
    store.write_bytes(keys.failed_shards(source_id, encoder_id), document.encode())


def noted_failures(store: Store, source_id: str, encoder_id: str) -> list[FailedShard]:
    """The shards that the latest run could not embed."""
    key = keys.failed_shards(source_id, encoder_id)
    if not store.exists(key):
        return []
    return [FailedShard(**row) for row in json.loads(store.read_bytes(key))]


def shard_states(store: Store, source_id: str, encoder_id: str) -> list[ShardState]:
    """Every listed shard of a source with its state; a changed source shard counts as missing."""
    shards = shards_from_table(store.read_table(keys.shards(source_id)))
    reasons = {f.shard: f.reason for f in noted_failures(store, source_id, encoder_id)}

    def state_of(shard: Shard) -> ShardState:
        stats = published(store, source_id, encoder_id, shard)
        if stats is not None:
            return ShardState(shard, "done", stats)
        reason = reasons.get(shard.name)
        return ShardState(shard, "failed" if reason else "missing", reason=reason)

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as requests:
        return list(requests.map(state_of, shards))


def summarize(states: Sequence[ShardState], published_at: Sequence[datetime]) -> PoolStatus:
    """The counts of all states. Pure.

    published_at: when each done shard's embeddings were published. The rate is that of the images
    between the first and the last of them; a pause between two runs lowers it.
    """
    stats = [state.stats for state in states if state.stats is not None]
    count = {kind: sum(state.state == kind for state in states) for kind in State.__args__}
    n_images = sum(s.n_images for s in stats)
    images_per_s = seconds_left = None
    if len(published_at) > 1:
        span_s = (max(published_at) - min(published_at)).total_seconds()
        per_shard = n_images / len(stats)
        if span_s > 0:
            images_per_s = per_shard * (len(published_at) - 1) / span_s
            seconds_left = (len(states) - len(stats)) * per_shard / images_per_s
    return PoolStatus(
        n_shards=len(states),
        n_done=count["done"],
        n_failed=count["failed"],
        n_missing=count["missing"],
        n_images=n_images,
        n_embedded=sum(s.n_embedded for s in stats),
        n_rejected=sum(s.n_rejected for s in stats),
        images_per_s=images_per_s,
        seconds_left=seconds_left,
    )


def verify(
    store: Store,
    source_id: str,
    encoder_id: str,
    on_shard: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """Read every published shard whole and count it again; no faults mean that all is there."""

    def check(state: ShardState) -> list[Fault]:
        faults = [] if state.stats is None else _faults(store, source_id, encoder_id, state.stats)
        on_shard()
        return [Fault(state.shard.name, message) for message in faults]

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as requests:
        found = requests.map(check, shard_states(store, source_id, encoder_id))
        return [fault for faults in found for fault in faults]


def _faults(store: Store, source_id: str, encoder_id: str, stats: ShardStats) -> list[str]:
    try:
        table = store.read_table(keys.embeddings(source_id, encoder_id, stats.shard))
        rejects = store.read_table(keys.rejects(source_id, encoder_id, stats.shard))
        dim = table.schema.field("embedding").type.list_size
        table = schemas.conform(table, schemas.embeddings(dim), stats.shard)
        rejects = schemas.conform(rejects, schemas.REJECTS, stats.shard)
    except (DCDError, OSError, KeyError) as err:
        return [f"cannot be read: {err}"]
    faults = []
    if table.num_rows + rejects.num_rows != stats.n_images:
        faults.append(
            f"{table.num_rows} embeddings + {rejects.num_rows} rejects, "
            f"but {stats.n_images} images; delete its embeddings and embed again"
        )
    n_ids = pc.count_distinct(table["image_id"]).as_py()
    if n_ids != table.num_rows:
        faults.append(f"{table.num_rows - n_ids} image_ids stand twice")
    if not pc.all(pc.is_finite(pc.list_flatten(table["embedding"]).cast("float32"))).as_py():
        faults.append("an embedding is not finite")
    return faults
