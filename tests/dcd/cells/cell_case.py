"""The tiny case of `tests.case` up to its plans of training, without Prefect."""

from pathlib import Path

from dcd.cells.cell import CellPlan
from dcd.cells.methods import methods
from dcd.config import BASELINES, SPLITS, RunConfig, Split, load_config
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.index.build import cluster_pool
from dcd.index.info import IndexInfo
from dcd.selection.select import SelectionInfo, select
from dcd.sources.records import Shard
from dcd.sources.source import list_source, source_of, sources
from dcd.splits.split import SplitInfo, gather_split
from dcd.store import Store
from dcd.training.user_model import start_digest
from tests.case import write_case


class CellCase:
    """The case embedded, clustered and searched once; `plan` gives any method's cell."""

    def __init__(self, folder: Path):
        config = folder / "config.yaml"
        if not config.exists():  # written again, the same images would count as changed
            write_case(folder, seeds=(0,))
        self.config: RunConfig = load_config(config)
        self.store = Store(self.config.store)
        encoder_id = load_encoder(self.config.encoder).encoder_id
        shards: dict[str, list[Shard]] = {}
        for source in sources(self.config):
            shards[source.id] = list_source(self.store, source)
            for shard in shards[source.id]:
                embed_shard(self.store, source, shard, self.config.encoder, encoder_id)
        self.pool = source_of(self.config.pool)
        self.index: IndexInfo = cluster_pool(
            self.store, self.pool, encoder_id, shards[self.pool.id], self.config.pool
        )
        self.splits: dict[Split, SplitInfo] = {}
        for split in SPLITS:
            data = self.config.dataset(split, 0)
            if data is None:
                continue
            source = source_of(data)
            self.splits[split] = gather_split(
                self.store, split, source, encoder_id, shards[source.id], data
            )
        self.selection: SelectionInfo = select(
            self.store, self.pool, self.index, self.splits, self.config.selection
        )

    def plan(self, method: str = "selected", seed: int = 0, **training: object) -> CellPlan:
        """The plan of a method with changed training settings."""
        document = self.config.model_dump()
        document["training"] |= training
        document["compare"]["baselines"] = list(BASELINES)
        config = RunConfig.model_validate(document)
        found = next(m for m in methods(config) if m.name == method)
        start = start_digest(config.training.start)
        return CellPlan.of(
            config, found, seed, self.pool, self.index, self.splits, self.selection, start
        )
