"""Run `find-neighbors`: what the pool has for some pictures."""

from collections.abc import Mapping

from prefect import flow

from dcd.config import RunConfig
from dcd.neighbors import Similar, look_up
from dcd.progress import live
from dcd.sources.source import open_for_pool
from dcd.store.healing import Mended, healed
from flows.embed_pool import embed_pool
from flows.stages import index_pool


@flow(name="find-neighbors", flow_run_name="neighbors {config.name}")
def find_neighbors(
    config: RunConfig, pictures: Mapping[str, bytes], labels: tuple[str, ...], k: int
) -> Similar:
    """Embed the pool if it is not, cluster it by label, and search it for the pictures."""

    def search(mended: tuple[Mended, ...]) -> Similar:
        embedded = embed_pool(config.embedding())
        found = index_pool(config, {embedded.source.id: embedded}).info
        with live.stage("search the pool"):
            return look_up(
                config.store, config.encoder, embedded.source, found, pictures, labels, k
            )

    return healed(open_for_pool(config.store, config.pool), search)
