"""The sample that stands for a pool, and the label agreement of its images: once an index."""

from functools import lru_cache

import pyarrow as pa

from dcd import keys
from dcd.agreement import Reference, fit_reference, label_agreement
from dcd.index import IndexInfo, index_info, pool_sample
from dcd.store import Store


def shared_sample(store: Store, index: IndexInfo) -> pa.Table:
    """`dcd.index.pool_sample`, read once for all selections and models of a run, and held."""
    return _sample(store.url, index.pool, index.encoder_id, index.index_id)


def pool_reference(store: Store, index: IndexInfo) -> Reference:
    """The index's sample of its pool, as `dcd.agreement` looks for neighbours in it."""
    return _reference(store.url, index.pool, index.encoder_id, index.index_id)


@lru_cache(maxsize=1)
def _sample(url: str, pool: str, encoder_id: str, index_id: str) -> pa.Table:
    store = Store(url)
    return pool_sample(store, index_info(store, pool, encoder_id, index_id))


@lru_cache(maxsize=1)
def _reference(url: str, pool: str, encoder_id: str, index_id: str) -> Reference:
    return fit_reference(_sample(url, pool, encoder_id, index_id))


def pool_agreement(store: Store, index: IndexInfo) -> pa.Table:
    """image_id, label, shard, content_hash, label_agreement of the pool's sample, in its order.

    The sample is the whole pool where that is small (`dcd.index.pool_sample`).
    """
    key = keys.pool_agreement(index.pool, index.encoder_id, index.index_id)
    if not store.exists(key):
        sample = shared_sample(store, index)
        agreement = label_agreement(pool_reference(store, index), sample)
        rows = sample.select(["image_id", "weak_label", "shard", "content_hash"])
        rows = rows.rename_columns(["image_id", "label", "shard", "content_hash"])
        store.write_table(key, rows.append_column("label_agreement", pa.array(agreement)))
    return store.read_table(key)
