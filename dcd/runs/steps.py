"""Take the loop's first steps alone: embed all images of a config, select for its failures.

They make the objects that the whole loop makes, so it goes on with what they have done.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from dcd.config import SPLITS, RunConfig, Split
from dcd.embeddings.calibrate import calibrated
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.errors import ConfigError
from dcd.failures import registry
from dcd.failures.modes import name_modes
from dcd.index.build import cluster_pool
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows
from dcd.label_noise.pseudo_labels import label_unlabelled
from dcd.selection.reviewed import match_reviews
from dcd.selection.select import select as select_images
from dcd.sources.records import Shard
from dcd.sources.source import list_source, open_for_pool, source_of, sources
from dcd.splits.split import SplitInfo, add_failures, gather_split
from dcd.store import Store, keys
from dcd.store.healing import healed


@dataclass(frozen=True)
class EmbeddedData:
    """What `embed` finds in the store when it is done.

    Attributes:
        encoder_id: of the encoder, which names its embeddings in the store.
        n_images: all images that were read: of the pool, of the splits, registered failures.
        n_rejected: of them those that could not be embedded.
        shards: by the id of their source.
        rejects: (source id, shard) pairs with images that were rejected.
    """

    encoder_id: str
    n_images: int
    n_rejected: int
    shards: Mapping[str, tuple[Shard, ...]]
    rejects: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Selection:
    """What was chosen for the failures of one seed.

    Attributes:
        id: names it in the store.
        failures: `image_id`, `label`, `mode` and `shard` of the error sample.
        picks: the images to add to train, with `label`, `shard`, `weight` in the loss, and how
            near a failure they are.
        neighbors: what was looked at for each failure (`error_image_id`), with `distance`, `rank`,
            `shard`, whether it was `kept`, and the `reason` if not.
    """

    id: str
    failures: pa.Table
    picks: pa.Table
    neighbors: pa.Table


def embed(config: RunConfig) -> EmbeddedData:
    """Embed the pool and the images of all splits, one shard after the other.

    Shards that the store has already are not embedded again.

    Args:
        config: of the whole loop.

    Raises:
        DCDError: with what went wrong, where, and what to do.
    """
    store = open_for_pool(config.store, config.pool)
    return healed(store, lambda _: embed_sources(store, config))


def select(config: RunConfig, seed: int) -> Selection:
    """Select pool images for the failures, as the loop does for `selected`.

    What is not embedded or indexed yet is so first. With a `goal` the loop picks in rounds, each
    for what still fails; this is the selection without them.

    Args:
        config: of the whole loop.
        seed: one of `config.seeds`, which may have splits of their own.

    Raises:
        ConfigError: the config has no such seed.
        DCDError: with what else went wrong, where, and what to do.
    """
    if seed not in config.seeds:
        raise ConfigError([f"seeds: {seed} is none of {list(config.seeds)}, the config's seeds"])
    store = open_for_pool(config.store, config.pool)
    return healed(store, lambda _: _select(store, config, seed))


def embed_sources(store: Store, config: RunConfig) -> EmbeddedData:
    """Embed every source of a run and the registered failures, shard by shard."""
    encoder = calibrated(store, source_of(config.pool), config.encoder)
    encoder_id = load_encoder(encoder).encoder_id
    wanted = sources(config)
    if config.failures and registry.check_batches(store):
        wanted.append(registry.registry_source(config.store))
    shards: dict[str, tuple[Shard, ...]] = {}
    rejected: list[tuple[str, str]] = []
    n_images = n_rejected = 0
    for source in wanted:
        shards[source.id] = tuple(list_source(store, source))
        for shard in shards[source.id]:
            stats = embed_shard(store, source, shard, encoder, encoder_id).stats
            n_images += stats.n_images
            n_rejected += stats.n_rejected
            rejected += [(source.id, shard.name)] if stats.n_rejected else []
    return EmbeddedData(encoder_id, n_images, n_rejected, shards, tuple(rejected))


def index_of(store: Store, config: RunConfig, embedded: EmbeddedData) -> IndexInfo:
    """Build or find the index of the pool's embeddings."""
    pool = source_of(config.pool)
    shards = embedded.shards[pool.id]
    return cluster_pool(store, pool, embedded.encoder_id, shards, config.pool, config.index)


def with_unlabelled(
    store: Store, config: RunConfig, index: IndexInfo, train: SplitInfo, embedded: EmbeddedData
) -> IndexInfo:
    """Label what has no label by a seed's train, where the config asks for it."""
    names = [shard.name for shard in embedded.shards[index.pool]]
    return label_unlabelled(store, config.pool, names, index, train, config.index)


def gathered(
    store: Store, config: RunConfig, seed: int, embedded: EmbeddedData
) -> dict[Split, SplitInfo]:
    """Gather the splits of a seed, registered failures among them, with their modes named."""
    by_images = {source.data.images: source for source in sources(config)}
    encoder_id, shards = embedded.encoder_id, embedded.shards
    found: dict[Split, SplitInfo] = {}
    for split in SPLITS:
        data = config.dataset(split, seed)
        if data is not None:
            source = by_images[data.images]
            found[split] = gather_split(store, split, source, encoder_id, shards[source.id], data)
    if registry.SOURCE_ID in shards:
        found["error_sample"] = add_failures(
            store,
            found.get("error_sample"),
            registry.registry_source(config.store),
            encoder_id,
            shards[registry.SOURCE_ID],
            registry.corrections_of_failures(store),
        )
    return name_modes(store, found)


def _select(store: Store, config: RunConfig, seed: int) -> Selection:
    embedded = embed_sources(store, config)
    index = index_of(store, config, embedded)
    splits = gathered(store, config, seed, embedded)
    index = with_unlabelled(store, config, index, splits["train"], embedded)
    reviewed = match_reviews(store, index)
    chosen = select_images(store, source_of(config.pool), index, splits, config.selection, reviewed)
    failures = keys.split(splits["error_sample"].id)
    neighbors = store.read_table(keys.selection_neighbors(chosen.id))
    return Selection(
        chosen.id,
        store.read_table(failures, ["image_id", "label", "mode", "shard"]),
        store.read_table(keys.selection_picks(chosen.id)),
        _with_shards(neighbors, pool_rows(store, index, neighbors["label"].unique())),
    )


def _with_shards(neighbors: pa.Table, rows: pa.Table) -> pa.Table:
    """Add where each neighbour lies; an image that stands in two shards counts once."""
    image = ["image_id", "label"]
    shards = rows.group_by(image).aggregate([("shard", "min")])
    joined = neighbors.join(shards.rename_columns([*image, "shard"]), image)
    return joined.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])
