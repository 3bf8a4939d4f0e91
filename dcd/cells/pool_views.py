"""Give the methods of a comparison their views of a pool, each taken when it is asked for."""

from functools import cached_property

import pyarrow as pa

from dcd.cells.hardness import Hardness, hardest
from dcd.cells.train import failing_head
from dcd.config import TrainingConfig
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, shared_sample
from dcd.label_noise.pool_agreement import pool_agreement
from dcd.store import Store
from dcd.tables.rows import without


class PoolViews:
    """Views of a pool without the content that no method may take.

    blocked: content_hash. train: schemas.labelled_features, what the failing model is fitted to.
    """

    def __init__(
        self,
        store: Store,
        index: IndexInfo,
        blocked: pa.Table,
        train: pa.Table,
        training: TrainingConfig,
    ):
        self._store, self._index, self._blocked = store, index, blocked
        self._train, self._training = train, training

    @cached_property
    def rows(self) -> pa.Table:
        """image_id, label, shard, content_hash of all images: what random draws take from."""
        return without(pool_rows(self._store, self._index), self._blocked)

    @cached_property
    def agreement(self) -> pa.Table:
        """The same columns and label_agreement, of the pool's sample."""
        return without(pool_agreement(self._store, self._index), self._blocked)

    def hardest(self, by: Hardness, n: int) -> pa.Table:
        """Give image_id, label, shard of the n images that the failing model finds hardest."""
        head = failing_head(self._train, self._training)
        return hardest(shared_sample(self._store, self._index), head, self._blocked, by, n)
