"""Turn one shard of images into a table of embeddings and a table of rejects, and publish both.

Every worker thread decodes a batch and runs it through the encoder by itself, one worker a core:
decoding of one batch overlaps the forward pass of another, no core waits, and batches hold the
same images in the same order however the threads run.
"""

import logging
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import EncoderConfig
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.errors import CountMismatch, EncoderError, ObjectNotFound, ObjectUnreadable
from dcd.images.decode_pool import decoded_elsewhere, decoded_here
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.shards import read_shard
from dcd.sources.source import Source
from dcd.store import Store, keys
from dcd.store.forgotten import LOOK, REASON, forgotten_marks, mark_of
from dcd.store.requests import (
    METADATA_MISSED,
    METADATA_READ,
    REQUESTS_AT_ONCE,
    Requests,
    writing_requests,
)
from dcd.tables import schemas
from dcd.tables.labels import stand_as_cleaned
from dcd.tables.vectors import vector_lists
from dcd.threads import cores

log = logging.getLogger(__name__)
# Raised whenever the same shard and encoder would give other tables.
CODE_FORMAT = 2  # 2: ids and labels as dcd.tables.labels cleans them, keys with dots
_MAX_RESPELLED = 20  # kept of a shard: captions may all differ
_MAX_BATCH_BYTES = 32 * 2**20  # of encoded images: what bounds memory when images are huge


@dataclass(frozen=True)
class ShardStats:
    """What became of a shard's images: n_images = n_embedded + n_rejected."""

    shard: str
    n_images: int
    n_embedded: int
    n_rejected: int


@dataclass(frozen=True)
class EmbeddedShard:
    """The tables of one shard: `schemas.embeddings` and `schemas.REJECTS`, sorted."""

    embeddings: pa.Table
    rejects: pa.Table
    stats: ShardStats


@dataclass(frozen=True)
class _Rows:
    """Embeddings of one batch, in the order of the source."""

    image_ids: list[str]
    weak_labels: list[str | None]
    content_hashes: list[bytes]
    vectors: np.ndarray  # (n, D) float16
    rejects: list[Reject]


def embed_images(
    shard: str,
    images: Iterable[RawImage | Reject],
    encoder: Encoder,
    on_images: Callable[[int], None] | None = None,
) -> EmbeddedShard:
    """Decode and embed images; each becomes one row of embeddings or one of rejects.

    Reads ahead by a few batches only, so memory is bounded whatever the size of the shard. The
    result depends on the images and the encoder, not on the timing of threads. `on_images` is
    called with the number of images done since the last call.
    """
    report = on_images or (lambda _: None)
    n_images = 0
    rejects: list[Reject] = []
    done: list[_Rows] = []
    pending: deque[Future[_Rows]] = deque()

    def finish_oldest() -> None:
        rows = pending.popleft().result()
        done.append(rows)
        report(len(rows.image_ids) + len(rows.rejects))

    try:
        for batch in _batches(images, encoder.batch_size):
            found = [item for item in batch if isinstance(item, RawImage)]
            refused = [item for item in batch if isinstance(item, Reject)]
            n_images += len(batch)
            rejects += refused
            report(len(refused))
            pending.append(_workers().submit(_embed_batch, found, encoder))
            if len(pending) > cores() + 1:
                finish_oldest()
        while pending:
            finish_oldest()
    finally:
        for future in pending:
            future.cancel()
    rejects += [reject for rows in done for reject in rows.rejects]
    embeddings = _embeddings_table(done, encoder.dim)
    stats = ShardStats(shard, n_images, embeddings.num_rows, len(rejects))
    return EmbeddedShard(embeddings, _rejects_table(rejects), stats)


def publish(
    store: Store, pool: str, encoder_id: str, shard: Shard, embedded: EmbeddedShard
) -> ShardStats:
    """Publish a shard's tables, each in one step: rejects first, embeddings last.

    The embeddings mark the shard as done. Raises CountMismatch, and publishes nothing, unless
    every image of the shard is either embedded or rejected.
    """
    stats = embedded.stats
    n_rows = embedded.embeddings.num_rows + embedded.rejects.num_rows
    if stats.n_images != n_rows or shard.n_images not in (None, n_rows):
        announced = "" if shard.n_images is None else f", {shard.n_images} announced"
        raise CountMismatch(
            f"{shard.uri}: {stats.n_images} images read{announced}, but "
            f"{embedded.embeddings.num_rows} embedded + {embedded.rejects.num_rows} rejected; "
            "if the source was changed meanwhile, list its shards again"
        )
    described = footer_of(encoder_id, shard, stats)
    rejects_key = keys.rejects(pool, encoder_id, shard.name)
    store.write_table(rejects_key, embedded.rejects, metadata=described)
    embeddings_key = keys.embeddings(pool, encoder_id, shard.name)
    store.write_table(embeddings_key, embedded.embeddings, metadata=described)
    return stats


def footer_of(encoder_id: str, shard: Shard, stats: ShardStats) -> dict[str, str]:
    """Return what the tables of a shard say about themselves."""
    return {
        "code_format": str(CODE_FORMAT),
        "encoder_id": encoder_id,
        "source_uri": shard.uri,
        "source_etag": shard.etag,
        "n_images": str(stats.n_images),
        "n_embedded": str(stats.n_embedded),
        "n_rejected": str(stats.n_rejected),
    }


def published(store: Store, pool: str, encoder_id: str, shard: Shard) -> ShardStats | None:
    """Return the counts of a shard that is done; None if it must be (re)done.

    Done means: there, and made from the same source etag, by the same encoder, in this format; or
    in the one before, where nothing that this one reads otherwise can be in it.
    """
    key = keys.embeddings(pool, encoder_id, shard.name)
    try:
        found = store.read_metadata(key)
    except (ObjectNotFound, ObjectUnreadable):
        return None
    wanted = {"encoder_id": encoder_id, "source_etag": shard.etag}
    if any(found.get(name) != value for name, value in wanted.items()):
        return None
    if found.get("code_format") != str(CODE_FORMAT) and not _reads_as_now(store, key, shard, found):
        return None
    counts = (int(found[name]) for name in ("n_images", "n_embedded", "n_rejected"))
    return ShardStats(shard.name, *counts)


def _reads_as_now(store: Store, key: str, shard: Shard, found: Mapping[str, str]) -> bool:
    """Say whether a shard in the format before this one has the ids and labels of today.

    Format 1 did not clean them alike, refused some labels, knew no names of codes, and lost the
    labels of keys with dots in tars.
    """
    if found.get("code_format") != "1" or found.get("n_rejected") != "0":
        return False
    rows = store.read_table(key, ["image_id", "weak_label"])
    if shard.format == "webdataset":
        dotted = pc.match_substring_regex(rows["image_id"], r"\.[^/]*$")
        if rows["weak_label"].null_count or pc.any(dotted, min_count=0).as_py():
            return False
    return stand_as_cleaned(rows["image_id"], rows["weak_label"])


def shard_requests(n_bytes: int | None, is_there: bool) -> Requests:
    """Count what one shard costs the store: `published` and, unless n_bytes is None, a look at
    what was forgotten and `publish`.

    n_bytes: of the embeddings. is_there: whether embeddings lie under its key, stale ones too.
    """
    looked = METADATA_READ if is_there else METADATA_MISSED
    if n_bytes is None:
        return looked
    return looked + LOOK + writing_requests(0) + writing_requests(n_bytes)


def published_of(
    store: Store, pool: str, encoder_id: str, shards: Sequence[Shard]
) -> list[ShardStats | None]:
    """Return `published` of every shard, in order; only what a listing shows is looked at."""
    there = set(store.keys_under(keys.embeddings_of(pool, encoder_id)))

    def look(shard: Shard) -> ShardStats | None:
        if keys.embeddings(pool, encoder_id, shard.name) not in there:
            return None
        return published(store, pool, encoder_id, shard)

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        return list(requests.map(look, shards))


def _batches(
    images: Iterable[RawImage | Reject], batch_size: int
) -> Iterator[list[RawImage | Reject]]:
    """Batches of up to `batch_size` images, cut earlier where they are heavy."""
    batch: list[RawImage | Reject] = []
    n_images = n_bytes = 0
    for item in images:
        batch.append(item)
        if isinstance(item, RawImage):
            n_images += 1
            n_bytes += len(item.data)
        if n_images == batch_size or n_bytes >= _MAX_BATCH_BYTES:
            yield batch
            batch, n_images, n_bytes = [], 0, 0
    if batch:
        yield batch


@lru_cache(maxsize=1)
def _workers() -> ThreadPoolExecutor:
    """One thread a core for the whole process, shared by the shards in flight."""
    return ThreadPoolExecutor(cores(), "embed")


def _embed_batch(images: list[RawImage], encoder: Encoder) -> _Rows:
    if "torch" in sys.modules:
        import torch  # waits for who is importing it now

        torch.set_num_threads(1)  # these workers are one a core already
    # A GPU outruns the threads of one interpreter; on a CPU the forward pass is what takes time.
    decoded = (decoded_elsewhere if encoder.runtime.device == "cuda" else decoded_here)(
        [image.data for image in images], encoder.preprocess
    )
    answers = list(zip(images, decoded.reasons, strict=True))
    good = [image for image, reason in answers if reason is None]
    rejects = [Reject(image.image_id, "decode", reason) for image, reason in answers if reason]
    vectors = np.empty((0, encoder.dim), np.float16)
    if good:
        pixels = decoded.pixels
        if rejects:
            pixels = pixels[[reason is None for reason in decoded.reasons]]
        with np.errstate(over="ignore"):  # too large for float16 becomes inf, rejected below
            vectors = encoder.embed(pixels).astype(np.float16)
    finite = np.logical_and.reduce(np.isfinite(vectors), axis=1)
    kept = [image for image, ok in zip(good, finite, strict=True) if ok]
    rejects += [
        Reject(image.image_id, "embed", "the embedding is not finite in float16")
        for image, ok in zip(good, finite, strict=True)
        if not ok
    ]
    return _Rows(
        image_ids=[image.image_id for image in kept],
        weak_labels=[image.weak_label for image in kept],
        content_hashes=[schemas.content_hash(image.data) for image in kept],
        vectors=vectors[finite],
        rejects=rejects,
    )


def _embeddings_table(batches: list[_Rows], dim: int) -> pa.Table:
    schema = schemas.embeddings(dim)
    vectors = np.concatenate([np.empty((0, dim), np.float16), *(rows.vectors for rows in batches)])
    columns = [
        pa.array([i for rows in batches for i in rows.image_ids], pa.string()),
        pa.array([w for rows in batches for w in rows.weak_labels], pa.string()),
        pa.array([h for rows in batches for h in rows.content_hashes], schemas.CONTENT_HASH),
        vector_lists(vectors, schema.field("embedding").type),
    ]
    table = pa.table(columns, schema=schema)
    return table.sort_by([("weak_label", "ascending"), ("image_id", "ascending")])


def _rejects_table(rejects: list[Reject]) -> pa.Table:
    rows = sorted((reject.image_id, reject.stage, reject.reason) for reject in rejects)
    columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=schemas.REJECTS)


@dataclass(frozen=True)
class Respelled:
    """A label that n images carry in another spelling."""

    spelling: str
    label: str
    n: int


@dataclass(frozen=True)
class ShardOutcome:
    """One embedded shard; `reused` when it was already published.

    n_bytes: of encoded images that were read for it now. n_respelled: of them those whose label
    the source writes in another way; respelled: such spellings, with the label and a count.
    """

    stats: ShardStats
    reused: bool
    n_bytes: int = 0
    n_respelled: int = 0
    respelled: tuple[Respelled, ...] = ()


def embed_shard(
    store: Store,
    source: Source,
    shard: Shard,
    config: EncoderConfig,
    encoder_id: str,
    on_images: Callable[[int], None] | None = None,
) -> ShardOutcome:
    """Embed one shard and publish it, unless it is there for the same etag and encoder.

    Raises EncoderError if the config's encoder is another one by now.
    """
    done = published(store, source.id, encoder_id, shard)
    if done is not None:
        return ShardOutcome(done, reused=True)
    encoder = load_encoder(config)
    if encoder.encoder_id != encoder_id:
        raise EncoderError(
            f"{config.checkpoint or config.model}: is the encoder {encoder.encoder_id} here, not "
            f"{encoder_id}, with which this run began; if its weights changed, start it again, and "
            "if this machine chose another precision, set encoder.precision"
        )
    marks = forgotten_marks(store)
    n_bytes = 0
    passed_over = PassedOver()
    ways: Counter[tuple[str, str]] = Counter()

    def counted() -> Iterator[RawImage | Reject]:
        nonlocal n_bytes
        for image in read_shard(shard, source.data, passed_over):
            if isinstance(image, RawImage):
                n_bytes += len(image.data)
                if image.spelling is not None and image.weak_label is not None:
                    ways[image.spelling, image.weak_label] += 1
                if marks and mark_of(schemas.content_hash(image.data)) in marks:
                    yield forgotten_reject()
                    continue
            yield image

    embedded = embed_images(shard.name, counted(), encoder, on_images)
    if len(passed_over):
        log.warning("%s: %s", shard.uri, passed_over)
    stats = publish(store, source.id, encoder.encoder_id, shard, embedded)
    respelled = tuple(Respelled(*way, n) for way, n in ways.most_common(_MAX_RESPELLED))
    if respelled:
        log.warning("%s: %s", shard.uri, respelled_words(ways.total(), respelled))
    return ShardOutcome(stats, False, n_bytes, ways.total(), respelled)


def forgotten_reject() -> Reject:
    """Return what stands in the place of a picture that was forgotten: no name of it."""
    return Reject("forgotten", "read", REASON)


def respelled_words(n_images: int, ways: Iterable[Respelled]) -> str:
    """Say which labels were cleaned, the most frequent first; "" if none were."""
    counts: Counter[tuple[str, str]] = Counter()
    for way in ways:
        counts[way.spelling, way.label] += way.n
    told = [f"{found!a} is {label!r} ({n:,})" for (found, label), n in counts.most_common(5)]
    more = ", …" if len(counts) > len(told) else ""
    return f"labels of {n_images:,} images were cleaned: {', '.join(told)}{more}" if told else ""
