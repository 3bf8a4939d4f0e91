"""Label agreement of the pool's own images: computed once an index, and kept beside it."""

import pyarrow as pa

from dcd import keys
from dcd.agreement import fit_reference, label_agreement
from dcd.index import IndexInfo, pool_sample
from dcd.store import Store


def pool_agreement(store: Store, index: IndexInfo) -> pa.Table:
    """image_id, label, shard, content_hash, label_agreement of the pool's sample, in its order.

    The sample is the whole pool where that is small (`dcd.index.pool_sample`).
    """
    key = keys.pool_agreement(index.pool, index.encoder_id, index.index_id)
    if not store.exists(key):
        sample = pool_sample(store, index)
        agreement = label_agreement(fit_reference(sample), sample)
        rows = sample.select(["image_id", "weak_label", "shard", "content_hash"])
        rows = rows.rename_columns(["image_id", "label", "shard", "content_hash"])
        store.write_table(key, rows.append_column("label_agreement", pa.array(agreement)))
    return store.read_table(key)
