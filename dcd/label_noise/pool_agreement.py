"""Judge the sample that stands for a pool: its images' label agreement, once an index."""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.info import IndexInfo, of_given_labels
from dcd.index.read import held_sample, shared_sample
from dcd.label_noise.agreement import (
    KnownVotes,
    Reference,
    fit_reference,
    neighbor_labels,
    shares_of_label,
)
from dcd.store import Store, keys
from dcd.tables.rows import codes
from dcd.tables.vectors import from_blobs, to_blobs


def pool_reference(store: Store, index: IndexInfo) -> Reference:
    """Prepare the index's sample of its pool, as `agreement` looks for neighbours in it.

    Images whose labels are given alone: a pseudo-label has no vote.
    """
    given = of_given_labels(store, index)
    return _reference(store.url, given.pool, given.encoder_id, given.index_id)


@lru_cache(maxsize=1)
def _reference(url: str, pool: str, encoder_id: str, index_id: str) -> Reference:
    store, place = Store(url), (pool, encoder_id, index_id)
    rows_key, directions_key = keys.pool_reference(*place), keys.reference_directions(*place)
    if not store.exists(rows_key):
        reference = fit_reference(held_sample(url, pool, encoder_id, index_id))
        rows, directions = reference_tables(reference)
        store.write_table(directions_key, directions)
        store.write_table(rows_key, rows)
        return reference
    return reference_of(store.read_table(rows_key), store.read_table(directions_key))


def reference_tables(reference: Reference) -> tuple[pa.Table, pa.Table]:
    """Turn a reference into rows (label, content_hash, vector) and directions (mean, direction).

    Vectors are the bytes of their float32s: lists of numbers take ten times as long to read.
    """
    rows = {
        "label": reference.classes.take(pa.array(reference.labels)),
        "content_hash": reference.hashes.take(pa.array(reference.content)),
        "vector": to_blobs(reference.vectors),
    }
    directions = {"mean": pa.array(reference.mean), "direction": to_blobs(reference.directions)}
    return pa.table(rows), pa.table(directions)


def reference_of(rows: pa.Table, directions: pa.Table) -> Reference:
    """Invert `reference_tables`."""
    classes, hashes = pc.unique(rows["label"]), pc.unique(rows["content_hash"])
    return Reference(
        classes=classes,
        labels=codes(rows["label"].combine_chunks(), classes),
        hashes=hashes,
        content=codes(rows["content_hash"].combine_chunks(), hashes),
        mean=directions["mean"].to_numpy(),
        directions=_vectors(directions["direction"]),
        vectors=_vectors(rows["vector"]),
    )


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    blobs = column.combine_chunks()
    return from_blobs(blobs, np.float32, blobs.type.byte_width)


def pool_agreement(store: Store, index: IndexInfo) -> pa.Table:
    """Return the sample: image_id, label, shard, content_hash, label_agreement, in its order.

    The sample is the whole pool where that is small (`dcd.index.read.pool_sample`). The votes that
    it is made of are kept beside it (`known_votes`).
    """
    key = keys.pool_agreement(index.pool, index.encoder_id, index.index_id)
    if not store.exists(key):
        sample, reference = shared_sample(store, index), pool_reference(store, index)
        votes = neighbor_labels(reference, sample)
        votes_key = keys.pool_votes(index.pool, index.encoder_id, index.index_id)
        store.write_table(votes_key, votes_table(sample["content_hash"], votes))
        rows = sample.select(["image_id", "weak_label", "shard", "content_hash"])
        rows = rows.rename_columns(["image_id", "label", "shard", "content_hash"])
        agreement = pa.array(shares_of_label(reference, sample, votes))
        store.write_table(key, rows.append_column("label_agreement", agreement))
    return store.read_table(key)


def known_votes(store: Store, index: IndexInfo) -> KnownVotes | None:
    """Return the votes of the index's sample; None where nobody has asked for its agreement yet.

    They are what `neighbor_labels` counts for the same images, which takes far longer.
    """
    key = keys.pool_votes(index.pool, index.encoder_id, index.index_id)
    return votes_of(store.read_table(key)) if store.exists(key) else None


def votes_table(content: pa.ChunkedArray, votes: np.ndarray) -> pa.Table:
    """Make a table of content_hash and votes, the bytes of (N, n) int32; each content once."""
    once = np.unique(codes(content.combine_chunks(), pc.unique(content)), return_index=True)[1]
    kept = content.take(pa.array(once)).combine_chunks()
    return pa.table({"content_hash": kept, "votes": to_blobs(votes[once].astype(np.int32))})


def votes_of(table: pa.Table) -> KnownVotes:
    """Invert `votes_table`."""
    blobs = table["votes"].combine_chunks()
    votes = from_blobs(blobs, np.int32, blobs.type.byte_width)
    return KnownVotes(table["content_hash"].combine_chunks(), votes)
