"""An index that several workers build: what all of them are told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from dcd.config import IndexConfig
from dcd.embeddings.read import ShardEntry
from dcd.index.build import Recipe
from dcd.index.layout import Layout, read_centroids, read_codec, sample_rows
from dcd.index.read import read_sample
from dcd.index.recall import Judge
from dcd.index.sample import BottomK
from dcd.index.sort import Sizes
from dcd.store import Store, keys
from dcd.tables import schemas


@dataclass(frozen=True)
class Run:
    """The shards that one worker sorts, and a name that they give."""

    shards: tuple[ShardEntry, ...]

    @property
    def id(self) -> str:
        return keys.digest([(shard.name, shard.identity) for shard in self.shards])


@dataclass(frozen=True)
class BegunIndex:
    """An index whose lists and codes, if any, are trained, and whose shards are dealt out.

    recipe: its labels lie in the store, where has_labels says that a table gives them. config: with
    the memory of one worker. n_train: as `Layout` has it, by label with lists.
    """

    recipe: Recipe
    has_labels: bool
    config: IndexConfig
    sizes: Sizes
    runs: tuple[Run, ...]
    n_train: Mapping[str, int]

    @property
    def prefix(self) -> str:
        return self.recipe.prefix

    def layout(self, store: Store) -> Layout:
        """Read what was trained, with the rows that were held out."""
        codec = None if self.config.storage == "float16" else read_codec(store, self.prefix)
        centroids = read_centroids(store, self.prefix) if self.n_train else {}
        heldout = {}
        if codec is not None or centroids:
            rows = read_sample(store, keys.index_heldout(self.prefix), self.recipe.dim)
            for label in pc.unique(rows["weak_label"]).to_pylist():
                heldout[label] = rows.filter(pc.equal(rows["weak_label"], label))
        return Layout(codec, centroids, heldout, self.n_train)

    def judge(self, layout: Layout) -> Judge:
        return Judge(layout.heldout, layout.codec)

    def sample(self, cutoff: int) -> BottomK:
        """Return an empty sample. cutoff: of a sketch that has seen the rows."""
        n_rows = sample_rows(self.config, self.recipe.dim)
        return BottomK(n_rows, schemas.clustered(self.recipe.dim), cutoff)
