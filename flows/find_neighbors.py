"""The `find-neighbors` flow: what the pool has for some pictures."""

from collections.abc import Mapping

from prefect import flow

from dcd.config import EmbedConfig, RunConfig
from dcd.similar import Similar, look_up
from flows.embed_pool import embed_pool
from tasks import debugging


@flow(name="find-neighbors", flow_run_name="neighbors {config.name}")
def find_neighbors(
    config: RunConfig, pictures: Mapping[str, bytes], labels: tuple[str, ...], k: int
) -> Similar:
    """Embed the pool if it is not, cluster it by label, and search it for the pictures."""
    embedded = embed_pool(EmbedConfig(store=config.store, pool=config.pool, encoder=config.encoder))
    index = debugging.cluster_pool(
        config.store, embedded.source, embedded.encoder_id, embedded.shards, config.pool
    )
    return look_up(config.store, config.encoder, embedded.source, index, pictures, labels, k)
