"""Collect what a run's data sets hold, by content: a failure must not be among it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SPLITS, DataConfig, RunConfig, Split
from dcd.embeddings.embed import CODE_FORMAT
from dcd.errors import ObjectNotFound, ObjectUnreadable
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage, Shard
from dcd.sources.shards import read_shard
from dcd.sources.source import Source, sources
from dcd.splits.label_table import read_labels
from dcd.store import Store, keys
from dcd.store.forgotten import forgotten_marks
from dcd.tables import schemas

_SHARDS_AT_ONCE = 8
_FORMAT = str(CODE_FORMAT)  # of ids and labels, as embeddings hold them


@dataclass(frozen=True, eq=False)
class KnownContent:
    """labels: those of train. split_of: the split of every labelled image, by content hash.

    forgotten: marks of pictures that must not come again (`dcd.store.forgotten`).
    """

    labels: frozenset[str]
    split_of: Mapping[bytes, Split]
    forgotten: frozenset[str] = frozenset()


def known_content(store: Store, config: RunConfig) -> KnownContent:
    """Collect labels and content of all splits of all seeds.

    Embedded images are known by their embeddings; of others the bytes are read once and their
    hashes kept in the store. Raises DataError or LabelError where a data set cannot be read.
    """
    by_images = {source.data.images: source for source in sources(config)}
    content: dict[str, pa.Table] = {}
    labels: set[str] = set()
    split_of: dict[bytes, Split] = {}
    for split, data in _views(config):
        source = by_images[data.images]
        if source.id not in content:
            content[source.id] = _content(store, source)
        rows = content[source.id]
        table = read_labels(data, split)
        if table is not None:
            rows = rows.filter(pc.is_in(rows["image_id"], value_set=table["image_id"]))
        if split == "train":
            found = rows["weak_label"] if table is None else table["label"]
            labels.update(label for label in found.to_pylist() if label is not None)
        for content_hash in rows["content_hash"].to_pylist():
            split_of.setdefault(content_hash, split)
    return KnownContent(frozenset(labels), split_of, forgotten_marks(store))


def _views(config: RunConfig) -> Iterator[tuple[Split, DataConfig]]:
    """The distinct data sets of all seeds."""
    views: dict[tuple[Split, DataConfig], None] = {
        (split, data): None
        for seed in config.seeds
        for split in SPLITS
        if (data := config.dataset(split, seed)) is not None
    }
    yield from views


def _content(store: Store, source: Source) -> pa.Table:
    """schemas.CONTENT of every image of a source."""
    embedded = _embedded(store, source)
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as threads:
        tables = threads.map(
            lambda shard: _shard_content(store, source, shard, embedded), list_shards(source.data)
        )
        return pa.concat_tables([schemas.CONTENT.empty_table(), *tables])


def _embedded(store: Store, source: Source) -> dict[str, str]:
    """A key of embeddings by shard name, of whatever encoder: content does not depend on it."""
    found = store.keys_under(keys.encoders_of(source.id))
    return {key.rpartition("/")[2].removesuffix(".parquet"): key for key in found}


def _shard_content(
    store: Store, source: Source, shard: Shard, embedded: Mapping[str, str]
) -> pa.Table:
    own = keys.content_hashes(source.id, shard.name)
    for key in filter(None, (embedded.get(shard.name), own)):
        try:
            found = store.read_metadata(key)
            if (found.get("source_etag"), found.get("code_format")) == (shard.etag, _FORMAT):
                table = store.read_table(key, schemas.CONTENT.names)
                return table.replace_schema_metadata(None).cast(schemas.CONTENT)
        except (ObjectNotFound, ObjectUnreadable):
            continue
    rows = [
        (image.image_id, image.weak_label, schemas.content_hash(image.data))
        for image in read_shard(shard, source.data)
        if isinstance(image, RawImage)
    ]
    columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
    table = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, schemas.CONTENT, strict=True)],
        schema=schemas.CONTENT,
    )
    described = {"source_etag": shard.etag, "code_format": _FORMAT}
    store.write_table(own, table, metadata=described)
    return table
