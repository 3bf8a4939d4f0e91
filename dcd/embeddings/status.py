"""Tell how far the embedding of a source is, and whether what is published is whole."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Literal, get_args

import pyarrow.compute as pc

from dcd.config import DataConfig
from dcd.embeddings.embed import ShardStats, published_of
from dcd.errors import DataError, DCDError, ObjectNotFound
from dcd.progress import live
from dcd.sources.records import Shard
from dcd.sources.shards import read_shard, shards_from_table
from dcd.store import Store, keys
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.tables import schemas

State = Literal["done", "failed", "missing"]
_MIN_PAUSE_S, _PAUSE_GAPS = 60, 20


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


@dataclass(frozen=True)
class Verification:
    """What a verification looked at: n_checked of n_shards are published, and what is wrong."""

    n_shards: int
    n_checked: int
    n_images: int
    faults: tuple[Fault, ...]


def note_failures(
    store: Store, source_id: str, encoder_id: str, failed: Sequence[FailedShard]
) -> None:
    """Note which shards the latest run could not embed; an empty list clears earlier notes."""
    document = {"failed": [asdict(f) for f in failed]}
    store.write_json(keys.failed_shards(source_id, encoder_id), document)


def noted_failures(store: Store, source_id: str, encoder_id: str) -> list[FailedShard]:
    """Return the shards that the latest run could not embed."""
    key = keys.failed_shards(source_id, encoder_id)
    if not store.exists(key):
        return []
    try:
        found = store.read_json(key)
        rows = found["failed"] if isinstance(found, dict) else found  # a bare list: older versions
        return [FailedShard(**row) for row in rows]
    except (KeyError, TypeError) as err:
        raise store.damaged(key, f"names no failed shards ({err!r})") from err


def shard_states(store: Store, source_id: str, encoder_id: str) -> list[ShardState]:
    """Return every listed shard with its state; a changed source shard counts as missing.

    Raises DataError if no run has listed the shards of this source yet.
    """
    try:
        shards = shards_from_table(store.read_table(keys.shards(source_id)))
    except ObjectNotFound as err:
        raise DataError(
            f"{source_id}: no run has listed its shards in {store.url} yet; run dcd embed first"
        ) from err
    reasons = {f.shard: f.reason for f in noted_failures(store, source_id, encoder_id)}

    def state_of(shard: Shard, stats: ShardStats | None) -> ShardState:
        if stats is not None:
            return ShardState(shard, "done", stats)
        reason = reasons.get(shard.name)
        return ShardState(shard, "failed" if reason else "missing", reason=reason)

    return list(map(state_of, shards, published_of(store, source_id, encoder_id, shards)))


def pool_status(store: Store, source_id: str, encoder_id: str) -> PoolStatus:
    """Sum up a source's embedding: counts, rate, time left. Raises DataError as `shard_states`."""
    states = shard_states(store, source_id, encoder_id)
    times = store.published_at(keys.embeddings_of(source_id, encoder_id))
    done = (state.shard.name for state in states if state.state == "done")
    there = (times.get(keys.embeddings(source_id, encoder_id, shard)) for shard in done)
    return summarize(states, [time for time in there if time is not None])


def summarize(states: Sequence[ShardState], published_at: Sequence[datetime]) -> PoolStatus:
    """Count all states. Pure.

    published_at: when each done shard's embeddings were published. The rate is that of the shards
    published since the last pause, which ends a run: a gap far longer than the usual one.
    """
    stats = [state.stats for state in states if state.stats is not None]
    count = {kind: sum(state.state == kind for state in states) for kind in get_args(State)}
    n_images = sum(s.n_images for s in stats)
    images_per_s = seconds_left = None
    recent = _since_the_last_pause(published_at)
    if len(recent) > 1:
        span_s = (recent[-1] - recent[0]).total_seconds()
        per_shard = n_images / len(stats)
        if span_s > 0:
            images_per_s = per_shard * (len(recent) - 1) / span_s
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


def _since_the_last_pause(times: Sequence[datetime]) -> list[datetime]:
    """The times in order, from the last gap on that is over a minute and 20 times the median."""
    ordered = sorted(times)
    gaps = [(b - a).total_seconds() for a, b in pairwise(ordered)]
    if not gaps:
        return ordered
    pause_s = max(_MIN_PAUSE_S, _PAUSE_GAPS * median(gaps))
    last = max((number for number, gap in enumerate(gaps, 1) if gap > pause_s), default=0)
    return ordered[last:]


def verify(
    store: Store, source_id: str, encoder_id: str, recount: DataConfig | None = None
) -> Verification:
    """Read every published shard whole and count it again.

    recount: how to read the image archives; they are then counted too. Raises DataError as
    `shard_states`.
    """
    states = shard_states(store, source_id, encoder_id)

    def check(state: ShardState) -> list[Fault]:
        if state.stats is None:
            return []
        faults = _faults(store, source_id, encoder_id, state.stats)
        if recount is not None:
            faults += _source_faults(state.shard, recount, state.stats.n_images)
        return [Fault(state.shard.name, message) for message in faults]

    with (
        live.stage("check", len(states), "shards") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests,
    ):
        checks = stage.each(requests.map(check, states))
        faults = [fault for found in checks for fault in found]
    done = [state.stats for state in states if state.stats is not None]
    return Verification(len(states), len(done), sum(s.n_images for s in done), tuple(faults))


def _source_faults(shard: Shard, data: DataConfig, n_images: int) -> list[str]:
    try:
        n_found = sum(1 for _ in read_shard(shard, data))
    except (DCDError, OSError) as err:
        return [f"its images cannot be read: {err}"]
    if n_found != n_images:
        return [
            f"{n_found} images in {shard.uri}, but {n_images} embedded or rejected; embed again"
        ]
    return []


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
            f"{table.num_rows} embeddings + {rejects.num_rows} rejects, but {stats.n_images} images"
        )
    n_ids = pc.count_distinct(table["image_id"]).as_py()
    if n_ids != table.num_rows:
        faults.append(f"{table.num_rows - n_ids} image_ids stand twice")
    if not pc.all(pc.is_finite(pc.list_flatten(table["embedding"]).cast("float32"))).as_py():
        faults.append("an embedding is not finite")
    return faults
