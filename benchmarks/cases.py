"""The data of a benchmark, embedded and indexed by the product without Prefect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.cell import CellPlan
from dcd.cells.methods import Method, methods
from dcd.config import SPLITS, RunConfig, SelectionConfig, Split
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.index.build import cluster_pool
from dcd.index.info import IndexInfo
from dcd.selection.select import SelectionInfo, select
from dcd.sources.records import Shard
from dcd.sources.source import Source, list_source, source_of, sources
from dcd.splits.label_table import read_truth
from dcd.splits.split import SplitInfo, gather_split
from dcd.store import Store, keys
from dcd.training.user_model import start_digest

HOME = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A config whose images are in the store: `embedded` makes it."""

    config: RunConfig
    store: Store
    index: IndexInfo
    of_images: dict[str, Source]
    shards: dict[str, list[Shard]]
    _splits: dict[int, dict[Split, SplitInfo]] = field(default_factory=dict)

    @classmethod
    def embedded(cls, config: RunConfig) -> "Case":
        """Embed and index what is not there yet."""
        store = Store(config.store)
        encoder_id = load_encoder(config.encoder).encoder_id
        of_images = {source.data.images: source for source in sources(config)}
        shards: dict[str, list[Shard]] = {}
        for source in of_images.values():
            shards[source.id] = list_source(store, source)
            for shard in shards[source.id]:
                embed_shard(store, source, shard, config.encoder, encoder_id)
        pool = source_of(config.pool)
        index = cluster_pool(store, pool, encoder_id, shards[pool.id], config.pool)
        return cls(config, store, index, of_images, shards)

    @property
    def pool(self) -> Source:
        return self.of_images[self.config.pool.images]

    def splits(self, seed: int) -> dict[Split, SplitInfo]:
        """The splits of a seed."""
        if seed not in self._splits:
            found: dict[Split, SplitInfo] = {}
            for split in SPLITS:
                if data := self.config.dataset(split, seed):
                    source = self.of_images[data.images]
                    shards = self.shards[source.id]
                    encoder_id = self.index.encoder_id
                    found[split] = gather_split(self.store, split, source, encoder_id, shards, data)
            self._splits[seed] = found
        return self._splits[seed]

    def select(self, selection: SelectionConfig, seed: int) -> SelectionInfo:
        """Select as the product does."""
        return select(self.store, self.pool, self.index, self.splits(seed), selection)

    def method(self, name: str) -> Method:
        """The method of that name in the config."""
        return next(m for m in methods(self.config) if m.name == name)

    def plan(self, method: Method, seed: int) -> CellPlan:
        """The cell of a selection, as the product plans it."""
        selection = self.select(method.selection or self.config.selection, seed)
        splits, start = self.splits(seed), start_digest(self.config.training.start)
        return CellPlan.of(
            self.config, method, seed, self.pool, self.index, splits, selection, start
        )

    def accuracies(self, cell_id: str, splits: Sequence[str]) -> list[float]:
        """What a finished cell gets right of some splits, in per cent."""
        found = self.store.read_table(keys.cell_predictions(cell_id))
        right = pc.equal(found["label"], found["predicted"]).cast(pa.float64())
        by = found.select(["split"]).append_column("right", right).group_by("split")
        mean = {r["split"]: r["right_mean"] for r in by.aggregate([("right", "mean")]).to_pylist()}
        return [100 * mean[split] for split in splits]

    def right_labels(self, rows: pa.Table) -> float:
        """The share in 0…1 of rows (image_id, label) whose label is right; 0 of none."""
        truth = read_truth(self.config.pool)
        assert truth is not None
        at = pc.index_in(rows["image_id"], value_set=truth["image_id"].combine_chunks())
        same = pc.equal(rows["label"], truth["label"].take(at.combine_chunks()))
        return pc.mean(same.cast(pa.float64())).as_py() or 0.0
