"""Run `find-neighbors`: what the pool has for some pictures."""

from collections.abc import Mapping

from prefect import flow

from dcd.config import RunConfig
from dcd.neighbors import Similar, look_up
from flows.embed_pool import embed_pool
from flows.stages import index_pool


@flow(name="find-neighbors", flow_run_name="neighbors {config.name}")
def find_neighbors(
    config: RunConfig, pictures: Mapping[str, bytes], labels: tuple[str, ...], k: int
) -> Similar:
    """Embed the pool if it is not, cluster it by label, and search it for the pictures."""
    embedded = embed_pool(config.embedding())
    index = index_pool(config, {embedded.source.id: embedded})
    return look_up(config.store, config.encoder, embedded.source, index.info, pictures, labels, k)
