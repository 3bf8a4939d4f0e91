"""Estimate what the flows will do with a pool: looked up, sampled, then reckoned."""

from dcd.config import BuildIndexConfig, RunConfig
from dcd.embeddings.batches import batched, max_tasks
from dcd.embeddings.calibrate import calibrated
from dcd.encoders.encoder import load_encoder
from dcd.errors import DataError
from dcd.estimate import pool_sample
from dcd.estimate.embedding import Estimate, Pool, embedding_cost
from dcd.estimate.indexing import indexing_cost, selecting_cost
from dcd.estimate.pool_state import failing_labels, is_on_object_store, plan_pool_index, plan_shards
from dcd.index.plan import distinct_labels
from dcd.progress import live
from dcd.sources.listing import list_shards
from dcd.sources.source import source_of
from dcd.splits.label_map import read_pool_labels
from dcd.store import Store
from tasks import embedding, reuse


def estimate_of(
    config: BuildIndexConfig, run: RunConfig | None, images_per_s: float | None, n_machines: int
) -> Estimate:
    """Estimate every stage of a pool's work.

    run: the config of the whole run, where selecting is to be told too.
    """
    store, source = Store(config.store), source_of(config.pool)
    encoder = load_encoder(calibrated(store, source, config.encoder))
    with live.stage("list shards"):
        shards = list_shards(source.data)
    versions = embedding.versions.fn(config.store, source, encoder.encoder_id)
    batches = batched(shards, max_tasks(config.runner.max_workers))
    results = [
        reuse.looked_up(store, embedding.result_key(source, batch, encoder.encoder_id, versions))
        for batch in batches
    ]
    kept = {
        shard.name
        for batch, result in zip(batches, results, strict=True)
        for shard in batch
        if result.is_kept
    }
    with live.stage("look for what is done"):
        planned = plan_shards(store, source, encoder.encoder_id, shards, versions, kept)
    left = [one.shard for one in planned if one.done is None]
    done = [one.done for one in planned if one.done is not None]
    sample = None
    if left:
        with live.stage("embed a few images"):  # for about 15 seconds
            sample = pool_sample.sample_pool(left, source.data, encoder)
    rows = pool_sample.embedded_rows(store, source.id, encoder.encoder_id, done)
    if rows is None and sample is not None:
        rows = sample.rows
    if rows is None:
        raise DataError(f"{source.data.images}: no image of its shards could be embedded")
    pool = Pool(
        source.data,
        encoder.encoder_id,
        planned,
        sample,
        rows,
        len(batches),
        reuse.requests_of(results),
        is_on_object_store(source.data.images),
        not store.is_local,
    )
    # Long, since it is one straight line: what is there, what is planned, and what that costs.
    labels = read_pool_labels(config.pool)
    labels = None if labels is None else distinct_labels(labels)
    with live.stage("plan the index"):
        index = plan_pool_index(
            store,
            source,
            encoder.encoder_id,
            shards,
            pool.n_embedded,
            labels,
            config.index,
            config.compact,
        )
    speed = images_per_s or (None if sample is None else sample.images_per_s)
    indexing = indexing_cost(pool, index, config.index, labels)
    stages = [embedding_cost(pool, speed, n_machines), indexing.stage]
    if run is not None and run.error_sample is not None:
        n_selections = 1 + len(run.compare.selections)
        stages.append(selecting_cost(pool, indexing, failing_labels(run), n_selections))
    return Estimate(
        pool=source.id,
        encoder_id=encoder.encoder_id,
        n_shards=len(planned),
        n_shards_left=len(left),
        n_images_done=sum(one.n_images for one in done),
        n_images_left=stages[0].n_rows,
        n_counted=sum(one.shard.n_images or 0 for one in pool.left),
        images_per_s=speed,
        n_machines=n_machines,
        stages=tuple(stages),
    )
