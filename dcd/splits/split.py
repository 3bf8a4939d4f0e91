"""Make a split: its images embedded, labelled and stored once.

Each returns a small record: what it made, how much, and whether it was already there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import DataConfig, Split
from dcd.reviews.standing import Correction
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.splits.gather import finite_rows, gather
from dcd.splits.label_table import read_labels
from dcd.store import Store, keys
from dcd.tables.labels import stand_as_cleaned
from dcd.tables.rows import with_column

# Raised whenever a stage's output would change for the same inputs.
_SPLIT_FORMAT = 2


@dataclass(frozen=True)
class SplitInfo:
    """A gathered split: `id` names it in the store. n_labelled - n_images were never embedded.

    added: the registry, where registered failures stand beside the images of `source`.
    made_from: ids of the splits that it was made from by adding failures or proposing modes.
    unnamed_id: its id before modes were proposed, where they were.
    """

    id: str
    split: Split
    source: Source
    n_labelled: int
    n_images: int
    reused: bool
    added: Source | None = None
    made_from: tuple[str, ...] = ()
    unnamed_id: str | None = None

    @property
    def images_id(self) -> str:
        """Names its images and their labels, whatever modes were proposed for them."""
        return self.unnamed_id or self.id

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where its images are."""
        return (self.source,) if self.added is None else (self.source, self.added)


def gather_split(
    store: Store,
    split: Split,
    source: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    data: DataConfig,
) -> SplitInfo:
    """Join a split's embeddings with its labels, once for the same images, labels and encoder."""
    labels = read_labels(data, split)
    content = None if labels is None else keys.table_digest(labels)
    etags = [[shard.name, shard.etag] for shard in shards]
    split_id = _id_of(store, "split", source.id, encoder_id, etags, content)
    key = keys.split(split_id)
    reused = store.exists(key)
    if not reused:
        table = gather(store, source.id, encoder_id, [s.name for s in shards], labels, split)
        n_labelled = table.num_rows if labels is None else labels.num_rows
        counts = {"n_labelled": str(n_labelled), "n_images": str(table.num_rows)}
        store.write_table(key, table, metadata=counts)
    counts = store.read_metadata(key)
    return SplitInfo(
        split_id, split, source, int(counts["n_labelled"]), int(counts["n_images"]), reused
    )


def _id_of(store: Store, kind: str, *made_of: object) -> str:
    """Name a split: by the format before this one where that stands and holds the same."""
    older = keys.digest(kind, _SPLIT_FORMAT - 1, *made_of)
    if store.exists(keys.split(older)):
        counts = store.read_metadata(keys.split(older))
        rows = store.read_table(keys.split(older), ["image_id", "label"])
        is_whole = counts.get("n_labelled", counts["n_images"]) == counts["n_images"]
        if is_whole and stand_as_cleaned(rows["image_id"], rows["label"]):
            return older
    return keys.digest(kind, _SPLIT_FORMAT, *made_of)


def add_failures(
    store: Store,
    given: SplitInfo | None,
    registry: Source,
    encoder_id: str,
    shards: Sequence[Shard],
    corrections: Sequence[Correction] = (),
) -> SplitInfo:
    """Add the registered failures of some batches (one a shard) to the error sample.

    given: the error sample that the config names, if any. A picture counts once. corrections: what
    reviews say of failures; those that were rejected are left out, relabelled ones have their true
    label.
    """
    etags = [[shard.name, shard.etag] for shard in shards]
    given_id = None if given is None else given.id
    reviewed = [[[c.content, c.label, c.true_label] for c in corrections]] if corrections else []
    split_id = _id_of(store, "failures", given_id, encoder_id, etags, *reviewed)
    key = keys.split(split_id)
    reused = store.exists(key)
    if not reused:
        names = [shard.name for shard in shards]
        table = gather(store, registry.id, encoder_id, names, None, "failures", unique=True)
        table = _corrected(table, corrections)
        if given is not None:
            base = store.read_table(keys.split(given.id)).replace_schema_metadata(None)
            fresh = pc.invert(pc.is_in(table["content_hash"], value_set=base["content_hash"]))
            table = pa.concat_tables([base, table.filter(fresh)]).sort_by("image_id")
        store.write_table(key, table, metadata={"n_images": str(table.num_rows)})
    n_images = int(store.read_metadata(key)["n_images"])
    n_lost = 0 if given is None else given.n_labelled - given.n_images
    return SplitInfo(
        split_id,
        "error_sample",
        registry if given is None else given.source,
        n_images + n_lost,
        n_images,
        reused,
        None if given is None else registry,
        () if given is None else (given.id,),
    )


def _corrected(failures: pa.Table, corrections: Sequence[Correction]) -> pa.Table:
    said = {(bytes.fromhex(c.content), c.label): c.true_label for c in corrections}
    pairs = zip(failures["content_hash"].to_pylist(), failures["label"].to_pylist(), strict=True)
    labels = pa.array([said.get(pair, pair[1]) for pair in pairs], pa.string())
    return with_column(failures, "label", labels).filter(labels.is_valid()) if said else failures


def split_table(store: Store, split: SplitInfo) -> pa.Table:
    """Read a split's labelled features once for all selections and models, and hold them."""
    return _split_table(store.url, split.id)


@lru_cache(maxsize=8)
def _split_table(url: str, split_id: str) -> pa.Table:
    return finite_rows(Store(url), keys.split(split_id))


def blocked_content(store: Store, splits: Mapping[Split, SplitInfo]) -> pa.Table:
    """Collect content that no method may take: (content_hash, reason), one row a content."""
    tables = []
    for split, info in splits.items():
        hashes = store.read_table(keys.split(info.id), ["content_hash"]).combine_chunks()
        tables.append(hashes.append_column("reason", pa.repeat(f"in {split}", hashes.num_rows)))
    every = pa.concat_tables(tables)
    return (
        every.group_by("content_hash", use_threads=False)
        .aggregate([("reason", "min")])
        .rename_columns(["content_hash", "reason"])
    )
