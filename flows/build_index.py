"""Run `build-index`: the pool is embedded where it is not yet, then clustered by label."""

from prefect import flow

from dcd.config import BuildIndexConfig, EmbedConfig
from dcd.index.info import IndexInfo
from flows.deployment import attend as operated
from flows.embed_pool import embed_pool
from tasks import stages as debugging


@flow(name="build-index", flow_run_name="index {config.pool.title}")
def build_index(config: BuildIndexConfig) -> IndexInfo:
    """Index all embedded images; new shards are appended, `compact` rewrites the whole."""
    operated.attend()
    embedding = EmbedConfig(**{name: getattr(config, name) for name in EmbedConfig.model_fields})
    embedded = embed_pool(embedding)
    return debugging.cluster_pool(
        config.store,
        embedded.source,
        embedded.encoder_id,
        embedded.shards,
        config.pool,
        config.index,
        config.compact,
    )
