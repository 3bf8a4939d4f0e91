"""Run `build-index`: the pool is embedded where it is not yet, then clustered by label."""

from functools import partial

from prefect import flow

from dcd.config import BuildIndexConfig, EmbedConfig
from dcd.index.info import IndexInfo
from dcd.sources.source import open_for_pool
from dcd.store.healing import Mended, healed
from flows.clustering import clustered
from flows.deployment.attend import attend
from flows.embed_pool import embed_pool


@flow(name="build-index", flow_run_name="index {config.pool.title}")
def build_index(config: BuildIndexConfig) -> IndexInfo:
    """Index all embedded images; new shards are appended, `compact` rewrites the whole."""
    attend()
    return healed(open_for_pool(config.store, config.pool), partial(run_stages, config))


def run_stages(config: BuildIndexConfig, mended: tuple[Mended, ...]) -> IndexInfo:
    """Embed and cluster once."""
    embedding = EmbedConfig(**{name: getattr(config, name) for name in EmbedConfig.model_fields})
    embedded = embed_pool(embedding)
    return clustered(
        config.store, embedded, config.pool, config.index, config.runner, config.compact
    )
